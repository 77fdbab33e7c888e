//! Entries for a policy that are proposed for a server: the least that makes sense, by names.
//!
//! Names in a policy are patterns, and servers and their callers chose the names here: a proposal has none that would match more
//! than itself, or that looks like another. It is never wider than its names either; where nothing says what is harmless, people
//! choose.

use super::quoted;

/// Most entries that people are shown to choose from.
const CHOICES: usize = 200;
/// The longest name, bytes: more than any tool's.
const LONGEST: usize = 512;

/// Proposed entries of a policy.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Proposal {
    /// Entries to take as they are.
    pub allow: Vec<String>,
    /// Entries to choose from: nothing says that they do no harm.
    pub choices: Vec<Choice>,
    /// The number of names in neither, as they hold `*` or characters that look like others.
    pub odd: usize,
}

/// An entry that people may choose.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// The entry.
    pub entry: String,
    /// A remark for the reader.
    pub note: &'static str,
}

/// A name as an entry of a policy has it, if it stands there for itself and nothing else: ASCII that people can tell apart, without
/// what a pattern or YAML could mean.
pub(super) fn exactly(name: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@+~,;=&%#".contains(c);
    (!name.is_empty() && name.len() <= LONGEST && name.chars().all(is_plain)).then(|| quoted(name))
}

impl Proposal {
    /// For a server that offers this: names of one key of a policy, each with whether it says that it only reads.
    pub fn of(id: &str, offered: &[(&'static str, Vec<(&str, Reads)>)]) -> Self {
        let mut proposal = Self::default();
        let all = || offered.iter().flat_map(|(key, names)| names.iter().map(move |(name, reads)| (*key, *name, *reads)));
        proposal.odd = all().filter(|(_, name, _)| exactly(name).is_none()).count();
        for (key, names) in offered {
            let reads: Vec<String> =
                names.iter().filter(|(_, reads)| *reads == Reads::AsItSays).filter_map(|(name, _)| exactly(name)).collect();
            if !reads.is_empty() {
                proposal.allow.push(format!("allow: {{ servers: [{id}], {key}: [{}] }}", reads.join(", ")));
            }
        }
        if proposal.allow.is_empty() {
            let choice = |(key, name, reads): (&str, &str, Reads)| {
                let note = if reads == Reads::MayWrite { "may write" } else { "" };
                Some(Choice { entry: format!("allow: {{ servers: [{id}], {key}: [{}] }}", exactly(name)?), note })
            };
            proposal.choices = all().filter_map(choice).collect();
        }
        proposal
    }

    /// Lines of a policy: what is to be chosen is a comment.
    pub fn text(&self, id: &str) -> String {
        let mut lines: Vec<String> = self.allow.iter().map(|allow| format!("- {allow}")).collect();
        if self.allow.is_empty() {
            lines.push(match self.choices.is_empty() {
                true => format!(
                    "# nothing is proposed: `gnomon server test {id} --json` names what it offers, each to be allowed by its name, as"
                ),
                false => "# none of its tools is annotated as read-only: uncomment what its users are to use".to_owned(),
            });
            if self.choices.is_empty() {
                lines.push(format!("# - allow: {{ servers: [{id}], tools: ['NAME'] }}"));
            }
        }
        lines.extend(self.choices.iter().take(CHOICES).map(|choice| match choice.note {
            "" => format!("# - {}", choice.entry),
            note => format!("# - {}    # {note}", choice.entry),
        }));
        if self.choices.len() > CHOICES {
            lines.push(format!("# and {} more: --json has them", self.choices.len() - CHOICES));
        }
        if self.odd > 0 {
            lines.push(format!("# not proposed: {} whose names are patterns, or characters that pass for others", self.odd));
        }
        lines.iter().map(|line| format!("  {line}\n")).collect()
    }
}

/// An entry's own claim, which nobody verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    /// It claims to only read.
    AsItSays,
    /// Nothing, or that it writes.
    MayWrite,
    /// A prompt or resource, which only reads by its kind.
    ByItsKind,
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: [&str; 9] =
        ["*", "del*", "rd?", "g\u{43e}od", "\u{202e}gnp", "a\\*", "a,b] } }", "it's", "evil\r\n- allow: { servers: ['*'] }"];

    fn tools<'a>(names: &[(&'a str, Reads)]) -> [(&'static str, Vec<(&'a str, Reads)>); 1] {
        [("tools", names.to_vec())]
    }

    #[test]
    fn a_proposal_has_no_name_that_is_a_pattern_or_looks_like_another_whatever_a_server_calls_its_tools() {
        let hostile = HOSTILE.map(|name| (name, Reads::AsItSays));
        let all: Vec<_> = hostile.into_iter().chain([("good", Reads::AsItSays), ("delete_all", Reads::MayWrite)]).collect();
        let proposal = Proposal::of("host", &tools(&all));
        assert_eq!(proposal.allow, ["allow: { servers: [host], tools: ['good'] }"]);
        assert_eq!((proposal.choices.len(), proposal.odd), (0, HOSTILE.len()));
        let only = Proposal::of("host", &tools(&hostile));
        assert!(only.allow.is_empty() && only.choices.is_empty() && only.odd == HOSTILE.len(), "{only:?}");
        for name in HOSTILE {
            assert_eq!(exactly(name), None, "{name:?}");
        }
        for name in ["read_file", "admin/tools.list-2", "note://well/1", "file:///srv/a%20b#c"] {
            assert!(exactly(name).is_some(), "{name}");
        }
    }

    #[test]
    fn where_nothing_says_that_it_only_reads_nothing_is_allowed_until_people_choose_it_by_name() {
        let proposal = Proposal::of("q", &tools(&[("add", Reads::MayWrite), ("drop", Reads::MayWrite)]));
        assert!(proposal.allow.is_empty());
        let text = proposal.text("q");
        assert!(text.lines().all(|line| line.trim_start().starts_with('#')), "{text}");
        assert!(text.contains("# - allow: { servers: [q], tools: ['add'] }    # may write\n"), "{text}");
        assert!(text.contains("tools: ['drop']"), "{text}");
        for none in [Proposal::of("q", &[]), Proposal::default()] {
            let text = none.text("q");
            assert!(text.lines().all(|line| line.trim_start().starts_with('#')), "{text}");
        }
    }
}
