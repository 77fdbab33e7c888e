#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

fn concealed(line: &[&str]) -> String {
    arguments_without_secrets(line).join(" ")
}

#[test]
fn credentials_on_command_lines_do_not_reach_events() {
    for (line, left) in [
        (&["curl", "-H", "Authorization: Bearer abc.def", "https://x/y"][..], "curl -H Authorization: *** https://x/y"),
        (&["curl", "-H", "X-Api-Key:abc"], "curl -H X-Api-Key:***"),
        (&["curl", "-u", "ada:lovelace", "https://x"], "curl -u *** https://x"),
        (&["tool", "--password", "hunter2", "run"], "tool --password *** run"),
        (&["tool", "--api-key=hunter2"], "tool --api-key=***"),
        (&["env", "GITHUB_TOKEN=abc", "npm", "start"], "env GITHUB_TOKEN=*** npm start"),
        (&["git", "clone", "https://ada:pw@git.example/x.git"], "git clone https://***@git.example/x.git"),
        (&["git", "clone", "https://ghs_abc@git.example/x.git"], "git clone https://***@git.example/x.git"),
        (&["tool", "https://x/y?key=1"], "tool https://x/y?***"),
        (&["tool", "https://x/y?a=1&X-Amz-Signature=2&code=3"], "tool https://x/y?***"),
        (&["tool", "https://x/?redirect=https://y/z&code=3"], "tool https://x/?***"),
        (&["tool", "https://x/cb#access_token=abc&state=1"], "tool https://x/cb#***"),
        (&["tool", "https://x#access_token=abc"], "tool https://x#***"),
        (&["tool", "https://x/a;password=abc;v=1/b"], "tool https://x/a;password=***;v=1/b"),
        (&["tool", "https://ada:hunter&2@x/y"], "tool https://***@x/y"),
        (&["tool", "https://ada:pw@x/y?t=eyJhbGciOiJIUzI1NiJ9"], "tool https://***@x/y?***"),
        (&["tool", "--mirrors=https://ada:pw@x/y,https://eve:pw@z/"], "tool --mirrors=https://***@x/y,https://***@z/"),
        (&["tool", "https://x/hooks/ghp_0123456789abcdef"], "tool https://x/hooks/***"),
        (&["curl", "-d", "password=b&to=https://x/?a=1&b=2"], "curl -d password=***&to=https://x/?***"),
        (&["sh", "-c", "curl -H 'x: Bearer abc' https://x"], "sh -c curl -H 'x: Bearer ***' https://x"),
        (&["bash", "-lc", "tool --password hunter2 run"], "bash -lc tool --password *** run"),
        (&["sh", "-c", "cd /srv && export API_TOKEN=abc; npm start"], "sh -c cd /srv && export API_TOKEN=*** npm start"),
        (&["sh", "-c", "curl -H \"X-Api-Key: abc\" https://x"], "sh -c curl -H \"X-Api-Key: ***\" https://x"),
        (&["sh", "-c", "curl -d '{\"params\": {\"path\": \"/etc/passwd\"}}' https://x"], "sh -c curl -d '{***}' https://x"),
        (&["sh", "-c", "curl -d {\"a\": \"b c\"} https://x"], "sh -c curl -d {***} https://x"),
        (&["sh", "-c", "sudo sh -c 'curl -u ada:lovelace https://x?y=1'"], "sh -c sudo sh -c 'curl -u *** https://x?***'"),
        (&["sh", "-c", "psql 'host=db password=hunter2 user=ada'"], "sh -c psql 'host=db password=*** user=ada'"),
        (&["curl", "-d", "user=a&password=b", "https://x"], "curl -d user=a&password=*** https://x"),
        (&["curl", "-d", "password=b&user=a"], "curl -d password=***&user=a"),
        (&["curl", "-H", "Authorization:", "Bearer", "abc"], "curl -H Authorization: Bearer ***"),
        (&["curl", "-H", "Authorization:", "token", "abc"], "curl -H Authorization: *** ***"),
        (&["curl", "-H", "X-Api-Key:", "abc1", "https://x"], "curl -H X-Api-Key: *** https://x"),
        (&["tool", "--key=sk-0123456789abcdef0123"], "tool --key=***"),
        (&["curl", "-d", "{\"jsonrpc\":\"2.0\",\"params\":{\"path\":\"/etc/passwd\"}}"], "curl -d {***}"),
        (&["curl", "--data={\"password\": \"abc\"}"], "curl --data={***}"),
        (&["curl", "--header=Cookie:abc"], "curl --header=Cookie:***"),
        (&["curl", "--header=Cookie: a=abc; b=1"], "curl --header=Cookie: ***"),
        (&["curl", "--header", "Authorization: Digest a=1, b=2"], "curl --header Authorization: ***"),
        (&["sh", "-c", "curl --header=\"Cookie: a=abc; b=1\" https://x"], "sh -c curl --header=\"Cookie: *** https://x"),
        (
            &["docker", "run", "--env=TOKEN=abc", "-e", "API_KEY=abc", "-eX_TOKEN=abc"],
            "docker run --env=TOKEN=*** -e API_KEY=*** -eX_TOKEN=***",
        ),
        (&["npm", "config", "set", "//registry.example/:_authToken=abc"], "npm config set //registry.example/:_authToken=***"),
        (&["helm", "--set=auth.token=abc"], "helm --set=auth.token=***"),
        (&["app", "--dsn", "ada:pw@tcp(db:3306)/x"], "app --dsn ada:***@tcp(db:3306)/x"),
        (&["tool", "--pass", "abc", "--oauth2-bearer", "abc"], "tool --pass *** --oauth2-bearer ***"),
    ] {
        assert_eq!(concealed(line), left);
    }
}

#[test]
fn ordinary_command_lines_stay_as_they_are() {
    for line in [
        &["node", "agent.js", "--port", "8080"][..],
        &["npx", "-y", "@modelcontextprotocol/server-filesystem", "/home/ada"],
        &["npx", "mcp-remote", "https://mcp.example/mcp", "--header", "X-Team: platform"],
        &["python3", "-m", "http.server", "--bind", "127.0.0.1"],
        &["git", "commit", "-m", "Fix: the parser"],
        &["git", "clone", "git@git.example:owner/repo.git"],
        &["docker", "run", "-d", "-e", "TOKEN", "image:tag"],
        &["docker", "run", "localhost:5000/a:1@sha256:00ff"],
        &["tool", "--secret", "--verbose"],
        &["sh", "-c", "cd /srv && make test | tee 'a log' > it\\'s.txt"],
        &["git", "commit", "-m", "Don't break: it's fine"],
        &["awk", "{ print $1 }"],
        &["env", "TOKEN=", "npm", "start"],
    ] {
        assert_eq!(concealed(line), line.join(" "));
    }
}

/// A secret in every form in which command lines carry one, `NAME` in place of a name that says so.
const FORMS: [&[&str]; 34] = [
    &["--NAME", "SECRET"],
    &["--NAME=SECRET"],
    &["--opt=NAME=SECRET"],
    &["--opt", "NAME=SECRET"],
    &["-eNAME=SECRET"],
    &["-e", "NAME=SECRET"],
    &["NAME=SECRET"],
    &["-H", "NAME: SECRET"],
    &["-H", "NAME:SECRET"],
    &["-HNAME:SECRET"],
    &["--header", "NAME: Scheme SECRET"],
    &["--header=NAME:SECRET"],
    &["--header=NAME: SECRET"],
    &["--header=NAME: Scheme SECRET"],
    &["-H", "NAME:", "Scheme", "SECRET"],
    &["-H", "x: Bearer SECRET"],
    &["-u", "ada:SECRET"],
    &["https://ada:SECRET@h.example/x"],
    &["https://SECRET@h.example/x"],
    &["https://ada:a&SECRET@h.example/x"],
    &["--url=https://h.example/x?any=SECRET"],
    &["https://h.example/x#access_token=SECRET"],
    &["https://h.example#SECRET"],
    &["https://h.example/x;NAME=SECRET"],
    &["https://a.example/,https://h.example/x#any=SECRET"],
    &["a=1&NAME=SECRET"],
    &["--data=a=1&NAME=SECRET"],
    &["NAME=SECRET&a=1"],
    &["{\"a\": \"SECRET\"}"],
    &["--data={\"a\": \"SECRET\"}"],
    &["//registry.example/:NAME=SECRET"],
    &["ada:SECRET@tcp(db.example:3306)/x"],
    &["host=db NAME=SECRET user=ada"],
    &["--config=[{\"a\":\"SECRET\"}]"],
];

fn as_a_shell_has_it(words: &[String], quote: char) -> String {
    let word = |word: &String| if word.contains([' ', '"', '&', '#', '(']) { format!("{quote}{word}{quote}") } else { word.clone() };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

proptest! {
    #[test]
    fn no_secret_of_any_form_is_left(secret in "[A-Za-z0-9]{9,40}", form in 0..FORMS.len(), name in 0..7usize, before in "[a-z]{1,8}") {
        let names = ["API_TOKEN", "x-api-key", "Authorization", "Cookie", "password", "client_secret", "PrivateKey"];
        let words: Vec<String> = FORMS[form].iter().map(|word| word.replace("NAME", names[name]).replace("SECRET", &secret)).collect();
        let argv: Vec<String> = [before.clone()].into_iter().chain(words.clone()).chain(["run".to_owned()]).collect();
        let said = arguments_without_secrets(&argv).join(" ");
        prop_assert!(!said.contains(&secret), "{said}");
        prop_assert!(said.starts_with(&before) && said.ends_with("run"), "{said}");
        // Nothing is hidden twice, and all places are in the text.
        for (argument, places) in argv.iter().zip(secrets_in_arguments(&argv)) {
            prop_assert!(places.windows(2).all(|pair| pair[0].end <= pair[1].start), "{argument}: {places:?}");
            prop_assert!(places.iter().all(|place| argument.get(place.clone()).is_some()), "{argument}: {places:?}");
        }
        // The same in the one argument that a shell is given, in single quotes where there are double ones.
        let line = as_a_shell_has_it(&argv, '\'');
        let said = arguments_without_secrets(&["sh", "-c", &line]).join(" ");
        prop_assert!(!said.contains(&secret), "{line}: {said}");
    }

    #[test]
    fn any_arguments_are_taken(arguments in prop::collection::vec("(?s).{0,60}|[-=:/@?#&;'\"{}\\[\\] a\u{e9}]{0,40}", 0..6)) {
        let said = arguments_without_secrets(&arguments);
        prop_assert_eq!(said.len(), arguments.len());
        for argument in &arguments {
            let _ = argument_without_secrets(argument);
        }
    }
}
