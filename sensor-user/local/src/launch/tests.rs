//! Command lines, and what they start.

use super::*;
use proptest::prelude::*;

fn of(line: &str) -> Option<Launch> {
    launch(&shlex::split(line).unwrap())
}

#[test]
fn runners_name_the_package_that_they_start() {
    for (line, ecosystem, name, version) in [
        ("npx -y @modelcontextprotocol/server-filesystem /srv", "npm", "@modelcontextprotocol/server-filesystem", None),
        ("npx @playwright/mcp@latest", "npm", "@playwright/mcp", Some("latest")),
        ("npx --yes --package=@scope/a@1.2.3 a --flag", "npm", "@scope/a", Some("1.2.3")),
        ("npx -p tool@2.0.0 -c 'tool serve'", "npm", "tool", Some("2.0.0")),
        ("/usr/bin/node /usr/lib/node_modules/npm/bin/npx-cli.js -y mcp-server-time", "npm", "mcp-server-time", None),
        ("node /usr/bin/npm exec --yes -- mcp-remote@0.1.0 https://x", "npm", "mcp-remote", Some("0.1.0")),
        ("npm x mcp-remote", "npm", "mcp-remote", None),
        ("pnpm dlx mcp-remote", "npm", "mcp-remote", None),
        ("yarn dlx -p @a/b c", "npm", "@a/b", None),
        ("bunx --bun mcp-remote", "npm", "mcp-remote", None),
        ("bun x mcp-remote", "npm", "mcp-remote", None),
        ("deno run -A npm:@a/b@1.0.0", "npm", "@a/b", Some("1.0.0")),
        ("cmd /c npx -y mcp-remote", "npm", "mcp-remote", None),
        ("env -i TOKEN=x npx -y mcp-remote", "npm", "mcp-remote", None),
        ("sh -c 'TOKEN=x exec npx -y mcp-remote https://x'", "npm", "mcp-remote", None),
        ("TOKEN=x npx -y mcp-remote", "npm", "mcp-remote", None),
        ("uvx mcp-server-git --repository /srv", "pypi", "mcp-server-git", None),
        ("uvx --python 3.12 --from mcp-server-git==2025.1.1 mcp-server-git", "pypi", "mcp-server-git", Some("2025.1.1")),
        ("uvx mcp-server-fetch@1.0.0", "pypi", "mcp-server-fetch", Some("1.0.0")),
        ("uv tool run 'mcp-server-git[all]>=2'", "pypi", "mcp-server-git", Some(">=2")),
        ("uv --directory /srv run python -m mcp_server_git", "pypi", "mcp_server_git", None),
        ("pipx run --spec mcp-server-git==1.0 serve", "pypi", "mcp-server-git", Some("1.0")),
        ("python3 -W ignore -m mcp_server_git", "pypi", "mcp_server_git", None),
        ("python -um mcp_server_git", "pypi", "mcp_server_git", None),
        ("uv run -m mcp_server_git", "pypi", "mcp_server_git", None),
        ("timeout -k 1 5 nice -n 5 npx -y mcp-remote", "npm", "mcp-remote", None),
        ("env -u X setsid -w npx -y mcp-remote", "npm", "mcp-remote", None),
        ("npx -y mine@npm:mcp-remote@1.0.0", "npm", "mcp-remote", Some("1.0.0")),
        ("deno run -A jsr:@a/mcp@1.0.0", "npm", "jsr:@a/mcp", Some("1.0.0")),
        ("python3.11 -u -m mcp_server_git.server", "pypi", "mcp_server_git", None),
        ("docker run -i --rm -e TOKEN mcp/github", "docker", "mcp/github", None),
        ("docker run -it -eA=b --name x --network=host ghcr.io/a/b:1.2 serve", "docker", "ghcr.io/a/b", Some("1.2")),
        ("podman container run --rm -v /a:/b localhost:5000/a@sha256:00ff", "docker", "localhost:5000/a", Some("sha256:00ff")),
    ] {
        let Some(Launch::Package(package)) = of(line) else { panic!("{line}: {:?}", of(line)) };
        let found = (package.ecosystem.as_str(), package.name.as_str(), package.version.as_deref());
        assert_eq!(found, (ecosystem, name, version), "{line}");
    }
}

#[test]
fn what_is_no_package_is_the_program_or_its_script() {
    for (line, path, script) in [
        ("/opt/server --stdio", "/opt/server", None),
        ("node /srv/server.js npx", "node", Some("/srv/server.js")),
        ("python3 server.py -m x", "python3", Some("server.py")),
        ("python3 -c 'import mcp' x", "python3", None),
        ("python3 -E -X dev server.py", "python3", Some("server.py")),
        ("perl -E 'say 1' x", "perl", None),
        ("ruby -E utf-8 server.rb", "ruby", Some("server.rb")),
        ("php -c /etc/php.ini server.php", "php", Some("server.php")),
        ("/usr/bin/perl /srv/mcp-notes --quietly", "/usr/bin/perl", Some("/srv/mcp-notes")),
        ("env ruby /srv/notes.rb", "ruby", Some("/srv/notes.rb")),
        ("perl -ne 'print' mcp", "perl", None),
        ("node -r dotenv/config --no-warnings /srv/mcp.js", "node", Some("/srv/mcp.js")),
        ("php -r 'echo 1;' mcp", "php", None),
        ("npx ./server", "npx", Some("./server")),
        ("npx -y file:../tools/server", "npx", Some("../tools/server")),
        ("uvx --from ./server server", "uvx", Some("./server")),
        ("deno run -A server.ts", "deno", Some("server.ts")),
        ("bun run src/server.ts", "bun", Some("src/server.ts")),
        ("bun run start", "bun", None),
        ("bash -e /srv/server.sh", "bash", Some("/srv/server.sh")),
        ("php8.2 server.php", "php8.2", Some("server.php")),
        ("node /x/node_modules/.bin/server", "node", Some("/x/node_modules/.bin/server")),
        ("python /v/lib/python3.11/site-packages/tools/x.py", "python", Some("/v/lib/python3.11/site-packages/tools/x.py")),
        ("sh -c 'npx a; rm b'", "sh", None),
        ("docker ps", "docker", None),
        ("npm install x", "npm", None),
    ] {
        let expected = Launch::Program { path: path.to_owned(), script: script.map(str::to_owned) };
        assert_eq!(of(line), Some(expected), "{line}");
    }
    assert_eq!(launch::<&str>(&[]), None);
}

#[test]
fn what_comes_from_no_registry_is_a_claim_of_its_own_without_user_query_and_secret() {
    for (line, ecosystem, name, version) in [
        ("npx -y github:evil/mcp-x", "npm", "github:evil/mcp-x", None),
        ("npx -y mine@github:evil/mcp-x#main", "npm", "github:evil/mcp-x", Some("main")),
        ("npx -y evil/mcp-x", "npm", "github:evil/mcp-x", None),
        ("npx -y git@github.com:evil/mcp-x.git", "npm", "github:evil/mcp-x", None),
        ("npx -y https://u:hunter2@h/mcp.tgz?key=hunter2", "npm", "https://h/mcp.tgz", None),
        ("npx -y p@https://u:hunter2@h/mcp.tgz", "npm", "https://h/mcp.tgz", None),
        ("npx -y git+https://h/mcp-server.git", "npm", "git+https://h/mcp-server.git", None),
        ("npm exec github:evil/mcp-z -- a", "npm", "github:evil/mcp-z", None),
        ("uvx --from git+https://github.com/a/evil@main evil-mcp", "pypi", "github:a/evil", Some("main")),
        ("uvx --from 'mcp-x @ git+https://h/mcp_x.git' x", "pypi", "git+https://h/mcp_x.git", None),
        ("pipx run --spec git+https://h/mcp.git x", "pypi", "git+https://h/mcp.git", None),
        ("uv tool run --from https://h/mcp.whl x", "pypi", "https://h/mcp.whl", None),
        ("uv run https://h/mcp.py", "pypi", "https://h/mcp.py", None),
        ("deno run -A https://h/mcp.ts", "npm", "https://h/mcp.ts", None),
    ] {
        let Some(Launch::Package(package)) = of(line) else { panic!("{line}: {:?}", of(line)) };
        assert_eq!((package.ecosystem.as_str(), &*package.name, package.version.as_deref()), (ecosystem, name, version), "{line}");
        assert!(package.is_fetched() && package.is_pinned() == Some(false), "{line}");
        assert_eq!(of(line).unwrap().place(None), format!("pkg:{ecosystem}/{name}"));
    }
    let commit = "0123456789abcdef0123456789abcdef01234567";
    for (line, pinned) in [
        (format!("npx github:a/mcp#{commit}"), true),
        (format!("uvx --from git+https://h/mcp.git@{commit} x"), true),
        ("npx github:a/mcp#0123456".to_owned(), false),
        ("npx github:a/mcp#semver:1.2.3".to_owned(), false),
        (format!("npx https://h/mcp.tgz#{commit}"), false),
    ] {
        let Some(Launch::Package(package)) = of(&line) else { panic!("{line}: {:?}", of(&line)) };
        assert_eq!(package.is_pinned(), Some(pinned), "{line}: {package:?}");
    }
}

#[test]
fn a_script_in_a_package_s_folder_is_that_package_however_its_path_is_written() {
    let script = "node_modules/@modelcontextprotocol/server-filesystem/dist/index.js";
    for (before, program) in [("", "node"), ("./", "node"), ("/a/b/", "/usr/bin/node"), ("/a/node_modules/c/", "nodejs20")] {
        let line = format!("{program} -r ./x.js {before}{script} /srv");
        assert_eq!(of(&line).unwrap().place(None), "pkg:npm/@modelcontextprotocol/server-filesystem", "{line}");
        let Some(Launch::Package(package)) = of(&line) else { panic!("{line}") };
        assert!(!package.is_fetched() && package.version.is_none() && package.script == Some(format!("{before}{script}")), "{line}");
        assert_eq!(package.runner, file_of(program));
        assert_eq!(package.is_pinned(), None, "a start fetches nothing: {line}");
    }
    for (line, place) in [
        ("/a/node_modules/mcp-a/index.js", "pkg:npm/mcp-a"),
        ("npx -y ./node_modules/@evil/mcp-steal", "pkg:npm/@evil/mcp-steal"),
        ("python -u /v/site-packages/mcp_server_git/__main__.py", "pkg:pypi/mcp-server-git"),
        ("python /v/site-packages/mcp.py", "file:/v/site-packages/mcp.py"),
        ("node /a/my_node_modules/mcp/index.js", "file:/a/my_node_modules/mcp/index.js"),
        ("node node_modules/", "file:node_modules/"),
    ] {
        assert_eq!(of(line).unwrap().place(None), place, "{line}");
    }
}

#[test]
fn an_exact_version_or_a_digest_pins_and_nothing_else_does() {
    for (line, pinned) in [
        ("npx a@1.2.3", true),
        ("npx a@1.2.3-rc.1", true),
        ("npx a@^1.2.3", false),
        ("npx a@1", false),
        ("npx a@1.2.x", false),
        ("uvx a==1.2", true),
        ("npx a@latest", false),
        ("npx a", false),
        ("uvx a==1.2.3", true),
        ("uvx 'a>=1.2.3'", false),
        ("docker run a:1.2.3", false),
        ("docker run a@sha256:00ff", true),
    ] {
        let Some(Launch::Package(package)) = of(line) else { panic!("{line}") };
        assert_eq!(package.is_pinned(), Some(pinned), "{line}");
    }
    for line in ["python -m mcp_server_git", "python /v/site-packages/mcp_server_git/__main__.py", "/a/node_modules/mcp-a/index.js"] {
        let Some(Launch::Package(package)) = of(line) else { panic!("{line}") };
        assert_eq!(package.is_pinned(), None, "it lies on this host: {line}");
    }
}

proptest! {
    #[test]
    fn any_arguments_are_taken_and_what_is_kept_is_bounded(
        arguments in prop::collection::vec(prop_oneof![
            Just("npx".to_owned()), Just("docker".to_owned()), Just("run".to_owned()), Just("uv".to_owned()), Just("tool".to_owned()),
            Just("sh".to_owned()), Just("-c".to_owned()), Just("env".to_owned()), Just("-".to_owned()), Just("--".to_owned()), ".{0,400}",
        ], 0..12)
    ) {
        if let Some(Launch::Package(package)) = launch(&arguments) {
            prop_assert!(package.name.len() <= MAX_NAME && package.version.is_none_or(|version| version.len() <= MAX_NAME));
        }
    }
}
