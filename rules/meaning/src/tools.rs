//! The kind of a tool, by the words of its name and by what it is given: whether commands, code, SQL or texts for people are what it is
//! for. Names are the server's word: whoever names a tool otherwise is judged as what the name says.

use smol_str::SmolStr;

/// A call's arguments, by dotted path.
pub type Arguments = [(SmolStr, SmolStr)];

/// Names of tools that run commands.
const SHELL: &str = "bash sh zsh shell exec execute terminal cmd command commands powershell pwsh ssh cli console run tmux subprocess \
    process aws gcloud";
/// Names of tools that run code.
const CODE: &str = "python py node js javascript typescript repl jupyter notebook ipython cell code eval evaluate applescript \
    osascript lua ruby perl sandbox interpreter script";
/// Names of tools that write files.
const EDITOR: &str = "write edit patch insert multiedit notebookedit str_replace append push save apply migration migrations overwrite";
/// Names of tools whose texts people read, and of those that look for what people wrote.
const PROSE: &str = "jira linear asana notion confluence zendesk trello slack teams gmail outlook gdocs discord whatsapp telegram \
    clickup servicenow intercom hubspot wiki issue issues comment comments message messages mail email emails slide slides note notes \
    ticket tickets commit review reviews release releases discussion discussions translate summarise summarize sequentialthinking \
    thinking think entities memory memories observations incident incidents reply draft drafts paragraph event calendar task todo \
    reminder tweet post imessage";
/// Arguments that are command lines.
const COMMAND_ARGUMENTS: &str = "command commands cmd cmdline command_line commandline cli_command shell_command bash_command shell \
    exec argv args arguments";
/// Arguments that are code.
const CODE_ARGUMENTS: &str = "code code_snippet cell_source source_code source script expression function python javascript snippet \
    program";
/// Arguments that are text, patterns or queries of another language, in which a semicolon or a bar is no shell's.
const TEXT_ARGUMENTS: &str = "pattern regex regexp expression formula expr title text body content contents description message \
    comment summary notes note thought prompt instructions code html xml markdown json manifest sql statement logql promql jql cql \
    soql filter data values rows where subject caption label labels question script";
/// Arguments that hold the text of a file.
const FILE_TEXTS: [&str; 13] = [
    "content",
    "contents",
    "file_text",
    "new_str",
    "new_string",
    "newtext",
    "newText",
    "patch",
    "diff",
    "file_content",
    "new_content",
    "edits.newText",
    "files.content",
];

/// The kinds of a tool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kinds {
    pub shell: bool,
    pub code: bool,
    pub sql: bool,
    pub editor: bool,
    pub prose: bool,
}

impl Kinds {
    /// Of a tool with this name that is given these arguments.
    pub fn of(name: &str, arguments: &Arguments) -> Self {
        let words = words(name);
        let has = |list: &str| words.iter().any(|word| is_among(list, word));
        let given = |list: &str| arguments.iter().any(|(path, _)| is_among(list, last(path)));
        let begins = arguments.iter().any(|(_, value)| is_sql(value));
        let writes_files = has(EDITOR) || has("file files") && has("create update replace new put");
        let shell =
            has(SHELL) && !has("sql query queries") || given("command commands cmd cli_command command_line shell_command bash_command");
        let prose = has(PROSE);
        Self {
            shell: shell && (!prose || given(COMMAND_ARGUMENTS)),
            code: !prose && (has(CODE) || given("code code_snippet cell_source source_code")),
            sql: begins || given("sql statement logql promql"),
            editor: writes_files || arguments.iter().any(|(path, _)| is_file_text(path)) && !prose,
            prose,
        }
    }

    /// Their names, as rules have them.
    pub fn names(self) -> Vec<SmolStr> {
        let named = [(self.shell, "shell"), (self.code, "code"), (self.sql, "sql"), (self.editor, "editor"), (self.prose, "prose")];
        named.into_iter().filter(|(is_it, _)| *is_it).map(|(_, name)| SmolStr::new_static(name)).collect()
    }
}

/// True if the argument is a command line, or a word of one.
pub(super) fn is_command(path: &str, kinds: Kinds) -> bool {
    let name = last(path).to_ascii_lowercase();
    match name.as_str() {
        "shell" | "exec" | "args" | "arguments" => kinds.shell,
        name if is_among(COMMAND_ARGUMENTS, name) => true,
        // A shell that is given its script under another name.
        "script" | "code" | "input" | "line" | "text" | "code_snippet" | "run" => kinds.shell && !kinds.code && !kinds.prose,
        _ => false,
    }
}

/// True if the argument is code.
pub(super) fn is_code(path: &str, kinds: Kinds) -> bool {
    kinds.code && is_among(CODE_ARGUMENTS, &last(path).to_ascii_lowercase())
}

/// True if a shell's marks within the argument may be those of its own language.
pub(super) fn is_text(path: &str) -> bool {
    let name = last(path).to_ascii_lowercase();
    is_among(TEXT_ARGUMENTS, &name) || path.to_ascii_lowercase().contains("rich_text")
}

/// True if the argument holds the text of a file.
pub(super) fn is_file_text(path: &str) -> bool {
    FILE_TEXTS.contains(&last(path)) || FILE_TEXTS.contains(&path)
}

/// True if the word is one of a list in which blanks part the words.
pub(super) fn is_among(list: &str, word: &str) -> bool {
    list.split_ascii_whitespace().any(|one| one == word)
}

/// The last name of a dotted path.
pub(super) fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// True if the text begins as a statement of SQL does.
pub(super) fn is_sql(value: &str) -> bool {
    let mut words = value.split_whitespace().map(str::to_ascii_lowercase);
    let (first, second) = (words.next().unwrap_or_default(), words.next());
    let second = second.as_deref().unwrap_or_default();
    match first.as_str() {
        "select" | "with" => value.to_ascii_lowercase().contains("from") || second == "count(*)",
        "insert" => second == "into",
        "delete" => second == "from",
        "update" => value.to_ascii_lowercase().contains(" set "),
        "drop" | "alter" | "create" | "truncate" => {
            matches!(second, "table" | "database" | "schema" | "view" | "index" | "role" | "user" | "or" | "temp")
        }
        "begin" | "begin;" => value.contains(';'),
        "explain" | "vacuum" | "grant" | "revoke" | "show" | "pragma" => !second.is_empty(),
        _ => false,
    }
}

/// The words of a name, however they are joined: `createIssue`, `create-issue`, `jira/create_issue`.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let (mut word, mut before) = (String::new(), ' ');
    for c in name.chars() {
        let ends = !c.is_alphanumeric() || (c.is_uppercase() && before.is_lowercase());
        if ends && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
        before = c;
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(name: &str, arguments: &[(&str, &str)]) -> Vec<SmolStr> {
        let arguments: Vec<(SmolStr, SmolStr)> = arguments.iter().map(|(path, value)| (SmolStr::new(path), SmolStr::new(value))).collect();
        Kinds::of(name, &arguments).names()
    }

    #[test]
    fn a_tool_is_known_by_its_name_or_by_what_it_is_given() {
        for (name, arguments, expected) in [
            ("bash", vec![("command", "ls")], vec!["shell"]),
            ("runTerminalCommand", vec![("x", "ls")], vec!["shell"]),
            ("exec_in_pod", vec![("command", "ls")], vec!["shell"]),
            ("maintenance", vec![("cmd", "ls")], vec!["shell"]),
            ("run_python", vec![("code", "1")], vec!["shell", "code"]),
            ("write_file", vec![("path", "a"), ("content", "b")], vec!["editor"]),
            ("createFile", vec![("path", "a")], vec!["editor"]),
            ("store", vec![("path", "a"), ("file_text", "b")], vec!["editor"]),
            ("jiraCreateIssue", vec![("body", "b")], vec!["prose"]),
            ("send_email", vec![("content", "b")], vec!["prose"]),
            ("report", vec![("q", "select a from b")], vec!["sql"]),
            ("read_file", vec![("path", "a")], vec![]),
            ("find_customer", vec![("email", "a")], vec![]),
        ] {
            assert_eq!(kinds(name, &arguments), expected, "{name}");
        }
    }
}
