//! Packages that come from no registry: a repository, or an archive or script at a URL, as runners take them in the place of a name.
//!
//! Of two spellings of a repository of a well-known host one is made. User, query and what looks like a secret in a path are left out, so that
//! two sources that differ in these alone have one name.

use crate::secrets::without_secret_segments;

/// The most of a source's name that is kept, in bytes.
const MAX_SOURCE: usize = 256;
/// Hosts of repositories, and the short name that npm has for them.
const HOSTS: [(&str, &str); 3] = [("github.com", "github"), ("gitlab.com", "gitlab"), ("bitbucket.org", "bitbucket")];

/// Where a package comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// `github:owner/name`, or a URL.
    pub name: String,
    /// The commit, tag or branch of a repository.
    pub version: Option<String>,
}

/// Where the reference to a commit stands.
#[derive(Clone, Copy)]
pub(crate) enum Reference {
    /// npm: behind `#`.
    InFragment,
    /// pip and uv: behind `@` at the path's end.
    InPath,
}

/// True if a name is one of a source: no registry has names with a colon.
pub(crate) fn is_source(name: &str) -> bool {
    name.contains(':')
}

/// True if this names one commit for ever (SHA-1 or SHA-256).
pub(crate) fn is_commit(version: &str) -> bool {
    matches!(version.len(), 40 | 64) && version.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The source that a runner's argument names; none if it is a name of a registry, or a file.
pub(crate) fn source(spec: &str, reference: Reference) -> Option<Source> {
    if let Some((scheme, rest)) = spec.split_once("://") {
        return Some(at_url(scheme, rest, reference));
    }
    let (place, fragment) = spec.split_once('#').map_or((spec, None), |(place, fragment)| (place, Some(fragment)));
    if let Some((scheme, rest)) = place.split_once(':') {
        let short = scheme.to_ascii_lowercase();
        if short == "gist" || HOSTS.iter().any(|(_, name)| *name == short) {
            let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
            return Some(named(format!("{short}:{}", without_git(rest)), fragment));
        }
        // `git@host:owner/name`
        let host = scheme.rsplit_once('@').map_or(scheme, |(_, host)| host);
        if host.contains('.') && !host.contains('/') {
            return Some(at_url("git+ssh", &format!("{host}/{rest}{}", spec.get(place.len()..).unwrap_or_default()), reference));
        }
        return None;
    }
    // `owner/name` is npm's for a repository of GitHub's.
    let is_short =
        matches!(reference, Reference::InFragment) && !place.starts_with(['@', '.', '/', '~']) && place.matches('/').count() == 1;
    is_short.then(|| named(format!("github:{}", without_git(place)), fragment))
}

/// `rest` is what stands behind `://`.
fn at_url(scheme: &str, rest: &str, reference: Reference) -> Source {
    let scheme = scheme.to_ascii_lowercase();
    let (place, fragment) = rest.split_once('#').map_or((rest, None), |(place, fragment)| (place, Some(fragment)));
    let place = place.split('?').next().unwrap_or_default();
    let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_ascii_lowercase();
    let (path, version) = match reference {
        Reference::InFragment => (path, fragment),
        Reference::InPath => path.rsplit_once('@').map_or((path, None), |(path, version)| (path, Some(version))),
    };
    let known = HOSTS.iter().find(|(known, _)| host.strip_prefix("www.").unwrap_or(&host) == *known);
    let repository = without_git(path);
    if let Some((_, short)) = known.filter(|_| repository.matches('/').count() == 1 && !repository.starts_with('/')) {
        return named(format!("{short}:{repository}"), version);
    }
    let is_git = scheme.starts_with("git") || scheme == "ssh" || path.ends_with(".git");
    named(without_secret_segments(&format!("{scheme}://{host}{path}")).into_owned(), version.filter(|_| is_git))
}

fn without_git(path: &str) -> &str {
    let path = path.trim_matches('/');
    path.strip_suffix(".git").unwrap_or(path)
}

fn named(name: String, version: Option<&str>) -> Source {
    // What stands there is kept whatever letters it has: a source that is none would not be told.
    let plain = |c: char| if c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '\\' | '<' | '>' | '`') { c } else { '_' };
    let mut name: String = name.chars().map(plain).collect();
    name.truncate(MAX_SOURCE);
    Source { name, version: version.filter(|version| !version.is_empty()).map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_spelling_of_a_repository_is_one_source_without_user_query_and_secret() {
        let hub = |version| Some(("github:evil/mcp-x", version));
        for (spec, reference, expected) in [
            ("github:evil/mcp-x", Reference::InFragment, hub(None)),
            ("evil/mcp-x#main", Reference::InFragment, hub(Some("main"))),
            ("git+https://ada:hunter2@github.com/evil/mcp-x.git#main", Reference::InFragment, hub(Some("main"))),
            ("https://GitHub.com/evil/mcp-x", Reference::InFragment, hub(None)),
            ("git@github.com:evil/mcp-x.git", Reference::InFragment, hub(None)),
            ("git+ssh://git@github.com/evil/mcp-x.git@v1#egg=a", Reference::InPath, hub(Some("v1"))),
            ("https://u:hunter2@h/mcp.tgz?token=hunter2#x", Reference::InFragment, Some(("https://h/mcp.tgz", None))),
            ("git+https://h/mcp.git@1f", Reference::InPath, Some(("git+https://h/mcp.git", Some("1f")))),
            ("https://h/0123456789abcdef0123/mcp.tgz", Reference::InFragment, Some(("https://h/***/mcp.tgz", None))),
            ("gist:0f/", Reference::InFragment, Some(("gist:0f", None))),
            ("@scope/name", Reference::InFragment, None),
            ("./server", Reference::InFragment, None),
            ("mcp-server-git", Reference::InPath, None),
        ] {
            let found = source(spec, reference);
            let found = found.as_ref().map(|source| (source.name.as_str(), source.version.as_deref()));
            assert_eq!(found, expected, "{spec}");
        }
        assert!(source(&"é:".repeat(999).replacen("é:", "https://", 1), Reference::InPath).unwrap().name.len() <= MAX_SOURCE);
    }
}
