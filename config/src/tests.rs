use super::*;
use keys::KEYS;

mod mangled;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("/etc/gnomon/gnomon.yml")).map_err(|complaint| complaint.cause)
}

fn refusal(text: &str) -> String {
    parse(text).unwrap_err()
}

/// One line of YAML (flow style) that sets one key of the table.
pub(super) fn setting(path: &str, sample: &str) -> String {
    if let Some(key) = path.strip_prefix("servers[].openapi.") {
        let file = if key == "file" { "" } else { "file: a.json, " };
        return format!("{{servers: [{{id: shop, openapi: {{{file}{key}: {sample}}}}}]}}");
    }
    match path.split_once("[].") {
        // What must stand beside a key of a list's entry.
        Some((list, key)) => {
            let (others, beside): (&[(&str, &str)], _) = match (list, key.split('.').next()) {
                ("servers", Some("command")) => (&[("id", "files")], ""),
                ("servers", Some("pin" | "env" | "cwd" | "read" | "write" | "network" | "user" | "confine" | "limits")) => {
                    (&[("id", "files"), ("command", "[/opt/files]")], "")
                }
                ("servers", _) => (&[("id", "docs"), ("url", "'https://docs.example/mcp'")], ""),
                ("portals", _) => (&[("id", "main"), ("servers", "[docs]")], ", servers: [{id: docs, url: 'https://docs.example/mcp'}]"),
                ("sensor.scopes", Some("match")) => (&[("name", "x")], ""),
                ("sensor.scopes", _) => (&[("name", "x"), ("match", "{unit: a.service}")], ""),
                _ => (&[("name", "ada"), ("password", "'env:X'")], ""),
            };
            let own = setting(key, sample);
            let mut entry = own.strip_suffix('}').unwrap_or(&own).to_owned();
            for (name, value) in others.iter().filter(|(name, _)| *name != key) {
                entry.push_str(&format!(", {name}: {value}"));
            }
            let text = setting(list, &format!("[{entry}}}]"));
            format!("{}{beside}}}", text.strip_suffix('}').unwrap_or(&text))
        }
        None => path.rsplit('.').fold(sample.to_owned(), |value, name| format!("{{{name}: {value}}}")),
    }
}

#[test]
fn what_a_portal_offers_is_sanctioned_and_known_by_its_id_and_what_none_offers_is_not() {
    let text = "servers:\n  - {id: docs, url: 'https://docs.example/mcp'}\n  - {id: six, url: 'http://[2001:db8::1]:81/mcp'}\n  \
                - {id: idle, url: 'https://idle.example/mcp'}\nportals:\n  - {id: main, listen: '127.0.0.1:8080', servers: [docs, six]}\n";
    let config = Config::parse(text, Path::new("gnomon.yml")).unwrap();
    let (sanctioned, registered) = (config.sanctioned_hosts(), config.registered());
    for (host, port, id) in [("docs.example", 443, Some("docs")), ("2001:db8::1", 81, Some("six")), ("idle.example", 443, None)] {
        assert_eq!(registered.at(host, port).map(|id| id.as_str()), id, "{host}");
        assert_eq!(sanctioned.matches(host, port), id.is_some(), "{host}");
    }
    assert!(sanctioned.matches("127.0.0.1", 8080) && sanctioned.matches("localhost", 8080), "the portal itself");
    assert!(!sanctioned.matches("docs.example", 8443) && registered.at("docs.example", 8443).is_none());
}

#[test]
fn every_key_of_the_table_is_read_and_every_sample_is_valid() {
    for key in KEYS.iter() {
        let text = setting(key.path, &key.sample);
        parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn the_parser_knows_no_key_that_the_table_does_not() {
    for section in ["", "proxy", "rules", "events", "events.otlp", "events.syslog", "events.retention", "metrics", "sensor"] {
        let prefix = if section.is_empty() { String::new() } else { format!("{section}.") };
        let known: std::collections::BTreeSet<&str> = KEYS
            .iter()
            .filter_map(|key| key.path.strip_prefix(prefix.as_str()))
            .map(|rest| rest.split(['.', '[']).next().unwrap_or(rest))
            .collect();
        let error = refusal(&setting(&format!("{prefix}qqq"), "1"));
        let listed = error.rsplit("known here: ").next().unwrap();
        assert_eq!(listed.split(", ").collect::<std::collections::BTreeSet<_>>(), known, "{section}");
    }
}

#[test]
fn nothing_but_comments_is_all_defaults() {
    for text in ["", "\n", "# gnomon\n  # nothing yet\n", "proxy: {}\n"] {
        let config = parse(text).unwrap();
        assert_eq!(config.to_json(), Config::default().to_json(), "{text:?}");
    }
}

#[test]
fn the_defaults_shown_are_those_of_the_table() {
    let shown = Config::default().to_json();
    for key in KEYS
        .iter()
        .filter(|key| !key.path.contains("[]"))
        .filter(|key| matches!(key.shape, keys::Shape::Number(..)) || key.default.contains(':') || key.default == "off")
    {
        let value = key.path.split('.').fold(&shown, |at, name| &at[name]);
        assert_eq!(value.as_str().map_or(value.to_string(), str::to_owned), key.default, "{}", key.path);
    }
}

#[test]
fn what_is_shown_reads_back_as_itself() {
    let text = "proxy: {listen: '[::1]:1', users: [{name: ada, password: 'file:pw'}], resolve: ['a:1:127.0.0.1']}\n\
                rules: {packs: [examples], dirs: [rules.d]}\nmetrics: {listen: off}\n";
    let shown = parse(text).unwrap().to_json();
    assert_eq!(shown["proxy"]["users"][0]["password"], "file:/etc/gnomon/pw");
    assert_eq!(parse(&shown.to_string()).unwrap().to_json(), shown);
}

#[test]
fn an_unknown_key_is_answered_with_place_and_nearest_key() {
    let error = refusal("proxy:\n  lisen: 127.0.0.1:1\n");
    assert_eq!(error, "/etc/gnomon/gnomon.yml:2:3: unknown key `lisen`; did you mean `listen`?");
}

#[test]
fn a_collector_is_told_apart_from_what_is_none_and_its_secrets_stay_secret() {
    let text =
        "events:\n  otlp: {endpoint: 'https://c.example', headers: ['authorization=file:token', 'X-Scope-OrgID=env:ORG'], ca: [a.pem]}\n";
    let shown = parse(text).unwrap().to_json();
    assert_eq!(
        shown["events"]["otlp"],
        serde_json::json!({"endpoint": "https://c.example/v1/logs",
            "headers": ["authorization=file:/etc/gnomon/token", "x-scope-orgid=env:ORG"], "ca": ["/etc/gnomon/a.pem"]})
    );
    assert_eq!(parse(&shown.to_string()).unwrap().to_json(), shown);
    for (otlp, expected) in [
        ("{endpoint: 'c.example:4318'}", ":1:27: `c.example:4318` is not the URL of a collector: write a URL"),
        ("{endpoint: 'https://u:geheim@c.example'}", ":1:27: a user or password does not belong in the URL"),
        ("{endpoint: 'https://c', headers: ['Authorization: Bearer geheim']}", ":1:50: write NAME=SECRET"),
        ("{endpoint: 'https://c', headers: ['Authorization=geheim']}", ":1:50: write where the secret is"),
        ("{endpoint: 'https://c', headers: ['content-type=env:X']}", ":1:50: gnomon sets `content-type` itself"),
        ("{endpoint: 'http://c', headers: ['Authorization=env:X']}", ":1:27: the headers' secrets would be readable on the way"),
        ("{headers: ['Authorization']}", ":1:27: write NAME=SECRET"),
    ] {
        let error = refusal(&format!("events: {{otlp: {otlp}}}\n"));
        assert!(error.contains(expected) && !error.contains("geheim"), "{otlp}: {error}");
    }
    assert!(parse("events: {otlp: {endpoint: off}}\n").unwrap().events.otlp.is_none());
    assert!(parse("events: {otlp: {endpoint: 'http://127.0.0.1:4318', headers: ['Authorization=env:X']}}\n").is_ok());
}

#[test]
fn a_syslog_server_is_named_by_transport_and_host() {
    let shown = parse("events: {syslog: {endpoint: 'tls://siem.example', ca: [a.pem]}}\n").unwrap().to_json();
    assert_eq!(shown["events"]["syslog"], serde_json::json!({"endpoint": "tls://siem.example:6514", "ca": ["/etc/gnomon/a.pem"]}));
    assert_eq!(parse(&shown.to_string()).unwrap().to_json(), shown);
    let error = refusal("events:\n  syslog: {endpoint: 'udp://siem.example'}\n");
    assert!(error.contains(":2:22: `udp://siem.example` is not a syslog server: write tls://HOST:PORT"), "{error}");
}

#[test]
fn every_bad_value_is_told_with_its_place() {
    let error = refusal("proxy:\n  listen: nowhere\n  window_bytes: 1\nsanctioned: ['https://x']\nrules: {packs: [exampels]}\n");
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), 4, "{error}");
    assert!(lines[0].ends_with("gnomon.yml:2:11: `nowhere` is not an address with a port, as 127.0.0.1:8443"), "{error}");
    assert!(lines[1].contains(":3:17: 1 is out of bounds; use 4096 to"), "{error}");
    assert!(lines[2].contains(":4:14: `https://x` is not a host pattern"), "{error}");
    assert!(lines[3].contains(":5:16: no rule pack is called `exampels`; did you mean `examples`?"), "{error}");
}

#[test]
fn a_wrong_type_and_broken_yaml_are_told_with_their_place() {
    assert!(refusal("proxy: [1]\n").contains("gnomon.yml:1:8: "));
    assert!(refusal("proxy:\n  listen: [\n").contains("gnomon.yml:"), "{}", refusal("proxy:\n  listen: [\n"));
    let error = refusal("proxy: {window_bytes: many}\n");
    assert!(error.starts_with("/etc/gnomon/gnomon.yml:1:23: "), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn a_password_in_plain_text_is_refused_without_repeating_it() {
    let error = refusal("proxy:\n  users:\n    - {name: ada, password: hunter2}\n");
    assert!(error.contains("gnomon.yml:3:") && error.contains("file:/path") && !error.contains("hunter2"), "{error}");
}

#[test]
fn a_secret_is_the_first_line_of_its_file_and_never_part_of_an_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("pw"), "s3cret\nrest\n").unwrap();
    let reference = SecretRef::parse("file:pw", dir.path()).unwrap();
    assert_eq!(reference.fetch().unwrap(), "s3cret");
    std::fs::write(dir.path().join("pw"), "").unwrap();
    assert!(reference.fetch().unwrap_err().cause.contains("is empty"));
    assert!(SecretRef::parse("env:GNOMON_NO_SUCH_VARIABLE", dir.path()).unwrap().fetch().is_err());
}

#[test]
fn the_schema_has_a_property_for_every_key() {
    let schema = schema::json_schema();
    for key in KEYS.iter() {
        let at = key.path.split('.').fold(&schema, |at, segment| match segment.strip_suffix("[]") {
            Some(name) => &at["properties"][name]["items"],
            None => &at["properties"][segment],
        });
        assert_eq!(at["description"], key.doc, "{}", key.path);
    }
    assert_eq!(schema["properties"]["proxy"]["properties"]["users"]["items"]["required"], serde_json::json!(["name", "password"]));
}

#[test]
fn what_pages_show_as_configuration_is_valid() {
    let mut shown = 0;
    for page in ["audit", "fleet", "portal", "portal-servers", "siem"] {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/{page}.md"));
        let text = std::fs::read_to_string(&page).unwrap();
        let blocks = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
        // Some show a part only: `…`, or a portal whose servers stand elsewhere.
        for block in blocks.filter(|block| !block.contains('…') && (!block.contains("portals:") || block.contains("servers:\n"))) {
            parse(block).unwrap_or_else(|cause| panic!("{}: {cause}\n{block}", page.display()));
            shown += 1;
        }
    }
    assert!(shown >= 7, "{shown}");
}

#[test]
fn scopes_are_read_and_their_mistakes_are_named() {
    let config =
        parse("sensor: {scopes: [{name: agents, match: {user: '1000'}, mode: intercept, ports: [443, 8443], fail: closed}]}").unwrap();
    let scope = &config.sensor.scopes[0];
    assert_eq!(scope.r#match.pattern().unwrap().to_string(), "/user.slice/user-1000.slice");
    assert_eq!((scope.mode, scope.ports.as_slice(), scope.fail), (scopes::Mode::Intercept, &[443, 8443][..], scopes::Fail::Closed));
    let unit = |unit: &str| scopes::Match::Unit(unit.to_owned()).pattern().unwrap().to_string();
    assert_eq!(unit("agent.service"), "/system.slice/agent.service");
    assert_eq!(unit("my-agent@1.service"), "/system.slice/system-my\\x2dagent.slice/my-agent@1.service");
    let refused = |scope: &str| refusal(&format!("sensor: {{scopes: [{scope}]}}"));
    assert!(refused("{name: a, match: {}}").contains("needs one of match.cgroup, match.user and match.unit"));
    assert!(refused("{name: a, match: {unit: x.service, user: ada}}").contains("needs one of"));
    assert!(refused("{name: a, match: {unit: x}}").contains("agent.service"));
    assert!(refused("{name: a, match: {cgroup: '/'}}").contains("all cgroups"));
    assert!(refused("{name: a, match: {user: ada}, mode: enforc}").contains("did you mean `enforce`?"));
    assert!(refused("{name: a, match: {user: ada}, ports: [0]}").contains("from 1 to 16 ports"));
    assert!(refused("{name: a, match: {user: ada}}, {name: a, match: {user: eve}}").contains("twice"));
    assert!(refused("{name: a, match: {executable: /usr/bin/x}}").contains("unknown key `executable`"));
    assert!(
        refused("{name: a, match: {user: /user.slice}}").contains("`/user.slice` is not a user; the path of a cgroup is for match.cgroup")
    );
    assert!(refused("{name: a, match: {cgroup: system.slice/a.service}}").contains("begins with `/`, as /system.slice/agent.service"));
    let folder = refused("{name: a, match: {cgroup: /sys/fs/cgroup/system.slice/a.service}}");
    assert!(folder.ends_with("this is a folder; the path of its cgroup is /system.slice/a.service"), "{folder}");
}

#[test]
fn a_scope_that_another_one_before_it_leaves_nothing_to_is_refused_with_its_place() {
    let scopes = |scopes: &str| format!("sensor:\n  scopes:\n{scopes}");
    let never = |first: &str, second: &str| {
        refusal(&scopes(&format!("  - {{name: a, match: {{{first}}}}}\n  - {{name: b, match: {{{second}}}}}\n")))
    };
    for (first, second) in [
        ("cgroup: /a/b", "cgroup: /a/b"),
        ("unit: x.service", "cgroup: /system.slice/x.service"),
        ("user: '1000'", "cgroup: /user.slice/user-1000.slice"),
        ("user: ada", "user: ada"),
    ] {
        let told = never(first, second);
        assert!(told.contains(":4:12: the scope `b` is never in force: it matches the same cgroups as `a`"), "{told}");
    }
    let told = never("cgroup: '/a/*'", "cgroup: /a/b");
    assert!(told.contains(":4:12: ") && told.contains("`a`, which stands before it, matches all of its cgroups; put `b` first"), "{told}");
    // The special one before the general one, and one within another, are both in force.
    for (first, second) in [("cgroup: /a/b", "cgroup: '/a/*'"), ("cgroup: /a", "cgroup: /a/b"), ("user: ada", "user: eve")] {
        parse(&scopes(&format!("  - {{name: a, match: {{{first}}}}}\n  - {{name: b, match: {{{second}}}}}\n"))).unwrap();
    }
}

#[test]
fn metrics_that_other_machines_can_reach_are_doubted() {
    let doubts = |listen: &str| parse(&format!("metrics: {{ listen: '{listen}' }}\n")).unwrap().doubts();
    assert!(doubts("127.0.0.1:9464").is_empty() && doubts("[::1]:9464").is_empty() && doubts("off").is_empty());
    assert!(doubts("0.0.0.0:9464")[0].contains("metrics.listen: 0.0.0.0:9464 can be reached"), "{:?}", doubts("0.0.0.0:9464"));
}

#[test]
fn a_user_that_this_host_does_not_have_and_one_whose_number_has_a_scope_already_are_doubted_with_their_places() {
    let text = "sensor:\n  scopes:\n  - {name: a, match: {user: '0'}}\n  - {name: b, match: {user: no-such-user-here}}\n  - {name: c, match: {user: root}}\n  - {name: d, match: {user: '4000000000'}}\n";
    let doubts = parse(text).unwrap().doubts();
    assert_eq!(doubts.len(), 2, "{doubts:#?}");
    assert!(
        doubts[0].contains(":4:29: this host has no user `no-such-user-here`: the scope `b` matches nothing until there is one"),
        "{doubts:#?}"
    );
    assert!(doubts[1].contains(":5:29: the scope `c` is never in force on this host: `a`"), "{doubts:#?}");
}

#[test]
fn the_smallest_portal_offers_its_servers_on_loopback_and_allows_nothing() {
    let config = parse("servers: [{id: docs, url: 'https://docs.example/mcp'}]\nportals: [{id: main, servers: [docs]}]\n").unwrap();
    let portal = &config.portals[0];
    assert_eq!((portal.listen.to_string().as_str(), portal.path.as_str()), ("127.0.0.1:8080", "/mcp"));
    assert!(portal.policy.is_empty());
    assert!(matches!(&config.servers[0].at, At::Url(url) if url == "https://docs.example/mcp"));
}

#[test]
fn what_is_wrong_with_a_portal_is_told_with_its_place() {
    let servers = "servers: [{id: docs, url: 'https://docs.example/mcp'}, {id: wiki, url: 'http://wiki.example/mcp'}]\n";
    for (portal, cause) in [
        ("{id: main, servers: [dcos]}", "no server is called `dcos`; did you mean `docs`?"),
        ("{id: main, servers: [docs], policy: [{allow: {servers: [dcos]}}]}", "no server is called `dcos`; did you mean `docs`?"),
        ("{id: main, servers: [docs, docs]}", "the server `docs` is listed twice; remove one"),
        ("{id: a_b, servers: [docs]}", "`a_b` is not a valid id: use lower-case letters, digits and `-` between them, at most 32"),
        ("{id: main, servers: [docs, wiki], prefix: never}", "`never` is for portals with a single server: names of several would collide"),
        (
            "{id: main, servers: [docs], listen: '0.0.0.0:1'}",
            "0.0.0.0:1 is reachable from other machines and `auth` is `none`: anybody could use this portal; listen on 127.0.0.1",
        ),
        (
            "{id: main, servers: [docs], listen: '0.0.0.0:1', auth: {mode: oidc, issuer: 'https://login.example'}}",
            "tokens would be readable on the way to 0.0.0.0:1; put something that ends TLS before it and name its https:// URL as `url`, or listen on 127.0.0.1",
        ),
        ("{id: main, servers: [docs], code_mode: on}", "`on` is not known here; known here: off, opt_in, default_on, enforced"),
        (
            "{id: main, servers: [docs], code_mode: off, snippets: review}",
            "snippets are of Code Mode, and `code_mode` is `off`: turn it on, or leave `snippets` out",
        ),
        ("{id: main, servers: [docs], policy: [{allow: {servers: [snippets]}}]}", "no server is called `snippets`; known here: docs, wiki"),
        ("{id: main, servers: [docs], path: mcp}", "`mcp` is not a path: it begins with `/` and has no query"),
    ] {
        let error = refusal(&format!("{servers}portals:\n  - {portal}\n"));
        assert!(error.starts_with("/etc/gnomon/gnomon.yml:3:") && error.ends_with(cause), "{error}");
    }
    let secret = refusal("servers: [{id: docs, url: 'https://ada:hunter2@docs.example/mcp'}]\n");
    assert!(secret.ends_with("credentials do not belong into a URL; name them under `auth`") && !secret.contains("hunter2"), "{secret}");
}

#[test]
fn a_portal_with_snippets_offers_no_server_that_is_called_like_them_and_its_policy_may_name_them() {
    let portal = |server: &str, snippets: &str| {
        let policy = "policy: [{allow: {servers: [snippets], tools: ['codemode.save']}}]";
        format!(
            "servers: [{{id: {server}, url: 'https://docs.example/mcp'}}]\nportals: [{{id: main, servers: [{server}], {snippets}{policy}}}]\n"
        )
    };
    let config = parse(&portal("docs", "snippets: review, ")).unwrap();
    assert_eq!(
        (config.portals[0].snippets, &config.to_json()["portals"][0]["snippets"]),
        (gnomon_portal::Snippets::Review, &"review".into())
    );
    for server in ["snippets", "snippets-x"] {
        let error = refusal(&portal(server, "snippets: review, "));
        assert!(error.contains("would be called like snippets: give the server another id"), "{error}");
    }
    parse(&portal("snippets", "")).unwrap();
}

#[test]
fn a_server_that_is_a_program_is_read_and_shown_as_it_was_written() {
    let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let text = format!(
        "servers:\n  - {{id: files, command: [bin/files, /srv], pin: {{sha256: {digest}, files: {{app.py: {digest}}}}}, env: {{A: b, KEY: 'env:K'}},\n     \
         read: [lib], write: [/srv], network: internet, user: mcp, confine: best_effort, limits: {{memory_mib: 64}}}}\n"
    );
    let config = parse(&text).unwrap();
    let At::Program(program) = &config.servers[0].at else { panic!("no program") };
    assert_eq!(program.command, ["/etc/gnomon/bin/files", "/srv"]);
    assert_eq!(program.env[1], ("KEY".to_owned(), programs::Variable::Secret(SecretRef::Env("K".to_owned()))));
    assert_eq!((program.limits.memory_mib, program.limits.tasks, program.limits.instances), (64, 128, 16));
    let shown = config.to_json();
    assert_eq!(shown["servers"][0]["pin"]["files"]["/etc/gnomon/app.py"], digest);
    assert_eq!(parse(&shown.to_string()).unwrap().to_json(), shown);
    let plain = parse("servers: [{id: files, command: [/opt/files]}]\n").unwrap().to_json();
    assert_eq!(parse(&plain.to_string()).unwrap().to_json(), plain);
}

#[test]
fn what_is_wrong_with_a_program_is_told_with_its_place() {
    for (server, cause) in [
        ("{id: a}", "the server `a` has none of `url`, `command` and `openapi`; add one"),
        ("{id: a, url: 'https://a.example', command: [/b]}", "the server `a` has a `url` and a `command`; remove one"),
        ("{id: a, url: 'https://a.example', network: none}", "the server `a` has a `url`: what programs may do does not belong there"),
        ("{id: a, command: [/b], auth: {bearer: 'env:X'}}", "`a` gets its secrets by `env`"),
        ("{id: a, command: ['']}", "`command` is empty; write [program, argument, …]"),
        ("{id: a, command: [/b], pin: {sha256: abc}}", "`abc` is not a SHA-256 of 64 hexadecimal digits; `sha256sum FILE` says it"),
        ("{id: a, command: [/b], pin: {}}", "`pin` is empty; write `pin: unpinned` if that is meant"),
        ("{id: a, command: [/b], pin: {sha265: abc}}", "unknown key `sha265`; did you mean `sha256`?"),
        ("{id: a, command: [/b], pin: latest}", "or `unpinned`"),
        ("{id: a, command: [/b], network: all}", "`all` is not known here; known here: none, internet, host"),
        ("{id: a, command: [npx, -y, '@x/y']}", "or write `pin: unpinned`"),
        (
            "{id: a, command: [npx, '@x/y'], pin: {package: '@x/y@1.0.0', lockfile: package-lock.json}}",
            "`command` does not name `@x/y@1.0.0`, which is what is pinned",
        ),
        ("{id: a, command: [npx, '@x/y@1.0.0'], pin: {package: '@x/y', lockfile: package-lock.json}}", "as @scope/name@1.2.3"),
        ("{id: a, command: [npx, '@x/y@1.0.0'], pin: {package: '@x/y@1.0.0'}}", "`package` and `lockfile` belong together"),
        (
            "{id: a, command: [uvx, y], pin: {package: 'y@1.0.0', lockfile: uv.lock}}",
            "use `npx` with package-lock.json, or `uv run` with uv.lock",
        ),
        ("{id: a, command: [/b], pin: {package: 'y@1.0.0', lockfile: uv.lock}}", "pin this program with `sha256`"),
    ] {
        let error = refusal(&format!("servers:\n  - {server}\n"));
        assert!(error.starts_with("/etc/gnomon/gnomon.yml:2:") && error.ends_with(cause), "{server}: {error}");
    }
    for good in [
        "{id: a, command: [npx, '@x/y'], pin: unpinned}",
        "{id: a, command: [npx, '@x/y@1.0.0'], pin: {package: '@x/y@1.0.0', lockfile: package-lock.json}}",
        "{id: a, command: [uv, run, y], pin: {package: 'y@1.0.0', lockfile: uv.lock}}",
    ] {
        parse(&format!("servers:\n  - {good}\n")).unwrap();
    }
}

#[test]
fn a_server_that_is_an_api_is_read_and_shown_as_it_was_written() {
    let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let text = format!(
        "servers:\n  - {{id: shop, openapi: {{file: openapi/shop.json, sha256: {digest}, base: 'https://api.example/v1', allow: [get*],\n     \
         writes: ['POST /items'], credentials: {{key: 'file:key'}}}}, auth: {{bearer: 'env:T', headers: ['X-A=env:A']}}}}\n"
    );
    let config = parse(&text).unwrap();
    let At::Api(api) = &config.servers[0].at else { panic!("no API") };
    assert_eq!(api.file, Path::new("/etc/gnomon/openapi/shop.json"));
    assert_eq!(config.secret_files, [PathBuf::from("/etc/gnomon/key")]);
    let shown = config.to_json();
    assert_eq!(parse(&shown.to_string()).unwrap().to_json(), shown);
    let plain = parse("servers: [{id: shop, openapi: {file: a.yml}}]\n").unwrap().to_json();
    assert_eq!(parse(&plain.to_string()).unwrap().to_json(), plain);
}

#[test]
fn what_is_wrong_with_an_api_is_told_with_its_place() {
    for (server, cause) in [
        ("{id: a, openapi: {}}", "the key `file` is missing here; add it"),
        ("{id: a, openapi: {file: a.yml, wirtes: [x]}}", "unknown key `wirtes`; did you mean `writes`?"),
        ("{id: a, openapi: {file: a.yml}, url: 'https://a.example'}", "the server `a` has `openapi` and a `url` or `command`; remove one"),
        ("{id: a, openapi: {file: a.yml}, transport: sse}", "`transport` and what programs may do do not belong there"),
        ("{id: a, openapi: {file: a.yml}, network: none}", "`transport` and what programs may do do not belong there"),
        ("{id: a, openapi: {file: a.yml, sha256: abc}}", "`abc` is not a SHA-256 of 64 hexadecimal digits; `sha256sum FILE` says it"),
        ("{id: a, openapi: {file: a.yml, base: /v1}}", "`base` cannot be used: it is not a URL"),
        ("{id: a, openapi: {file: a.yml, base: 'https://u:hunter2@a.example'}}", "it holds credentials, which do not belong into a URL"),
        ("{id: a, openapi: {file: a.yml, writes: ['']}}", "a pattern has 1 to 256 bytes: a tool's name, or `METHOD /path`, with `*`"),
        ("{id: a, openapi: {file: a.yml, credentials: {key: hunter2}}}", "not the secret itself"),
    ] {
        let error = refusal(&format!("servers:\n  - {server}\n"));
        assert!(
            error.starts_with("/etc/gnomon/gnomon.yml:2:") && error.ends_with(cause) && !error.contains("hunter2"),
            "{server}: {error}"
        );
    }
}

#[test]
fn a_portals_tls_is_read_and_contradictions_in_it_are_errors() {
    let portal = portal_text;
    let config = parse(&portal("listen: '10.0.0.5:8443', tls: {cert: p.pem, key: p.key, client_ca: [c.pem]}, auth: {mode: mtls}")).unwrap();
    assert_eq!(config.portals[0].url, "https://10.0.0.5:8443/mcp");
    let tls = config.portals[0].tls.as_ref().unwrap();
    assert_eq!(tls.shown, Shown::Files { cert: "/etc/gnomon/p.pem".into(), key: "/etc/gnomon/p.key".into() });
    assert_eq!(tls.client_ca, [PathBuf::from("/etc/gnomon/c.pem")]);
    assert_eq!(parse(&portal("tls: {ca: own}")).unwrap().portals[0].tls.as_ref().unwrap().shown, Shown::Own);
    for (more, cause) in [
        ("tls: {cert: p.pem}", "`tls` takes `cert` and `key`, or `ca: own`"),
        ("tls: {cert: p.pem, key: p.key, ca: own}", "`tls` takes `cert` and `key`, or `ca: own`"),
        ("tls: {ca: yours}", "`yours` is not known here; known here: own"),
        ("auth: {mode: mtls}", "`mtls` needs the authorities of client certificates: name `tls` with `client_ca`"),
        ("tls: {ca: own}, auth: {mode: mtls}", "`mtls` needs the authorities of client certificates: name `tls` with `client_ca`"),
    ] {
        let error = refusal(&portal(more));
        assert!(error.starts_with("/etc/gnomon/gnomon.yml:3:") && error.ends_with(cause), "{more}: {error}");
    }
}

fn portal_text(more: &str) -> String {
    format!("servers: [{{id: docs, url: 'https://docs.example/mcp'}}]\nportals:\n  - {{id: main, servers: [docs], {more}}}\n")
}

#[test]
fn labels_are_laid_over_each_other_and_their_mistakes_are_named() {
    let servers =
        "servers:\n  - id: docs\n    url: 'https://docs.example/mcp'\n    tools: {a: {alias: x, description: Ours}, b: {enabled: false}}\n";
    let portal = |overrides: &str| format!("{servers}portals:\n  - {{id: main, servers: [docs], overrides: {overrides}}}\n");
    let config = parse(&portal("{docs: {tools: {a: {alias: y}}, prompts: {p: {alias: q-1}}}}")).unwrap();
    let shown = config.to_json();
    assert_eq!(shown["servers"][0]["tools"], serde_json::json!({"a": {"alias": "x", "description": "Ours"}, "b": {"enabled": false}}));
    assert_eq!(
        shown["portals"][0]["overrides"],
        serde_json::json!({"docs": {"tools": {"a": {"alias": "y", "description": "Ours"}, "b": {"enabled": false}}, "prompts": {"p": {"alias": "q-1"}}}})
    );
    assert_eq!(parse(&shown.to_string()).unwrap().to_json(), shown);
    for (overrides, expected) in [
        ("{dosc: {}}", "this portal offers no server `dosc`; did you mean `docs`?"),
        ("{docs: {tools: {a: {alias: 'a b'}}}}", "`a b` is not a valid alias"),
        ("{docs: {tools: {a: {alias: x__y}}}}", "`x__y` is not a valid alias"),
        ("{docs: {tools: {a: {}}}}", "`a` has no settings"),
        ("{docs: {tools: {a: {alias: z}, c: {alias: z}}}}", "the alias `z` is listed twice"),
        ("{docs: {tools: {c: {alias: x}}}}", "the alias `x` is used twice"),
        ("{docs: {tools: {a: {description: ''}}}}", "a description has 1 to 8192 bytes"),
        ("{docs: {tools: {a: {alais: z}}}}", "unknown key `alais`; did you mean `alias`?"),
    ] {
        let error = refusal(&portal(overrides));
        assert!(error.contains(expected) && error.contains("gnomon.yml:6:"), "{overrides}: {error}");
    }
}

#[test]
fn portals_at_one_address_are_told_apart_by_path_or_host_and_have_the_same_tls() {
    let two = |first: &str, second: &str| {
        format!(
            "servers: [{{id: docs, url: 'https://docs.example/mcp'}}]\nportals:\n  - {{id: a, servers: [docs], {first}}}\n  - {{id: b, servers: [docs], {second}}}\n"
        )
    };
    let config = parse(&two("path: /a", "path: /b")).unwrap();
    assert_eq!(config.listeners().iter().map(Vec::len).collect::<Vec<_>>(), [2]);
    assert_eq!(parse(&two("hosts: [a.example]", "hosts: [b.example]")).unwrap().listeners().len(), 1);
    assert_eq!(parse(&two("listen: '127.0.0.1:0'", "listen: '127.0.0.1:0'")).unwrap().listeners().len(), 2);
    for (first, second, expected) in [
        ("path: /mcp", "path: /mcp", "give each its own `path`"),
        ("hosts: [a.example]", "path: /mcp", "give each its own `path`"),
        ("hosts: [a.example]", "hosts: [b.example, A.example]", "give each its own `path`"),
        ("path: /a", "path: /b, tls: {ca: own}", "another `tls`"),
    ] {
        let error = refusal(&two(first, second));
        assert!(error.contains(expected) && error.contains("gnomon.yml:4:"), "{first} {second}: {error}");
    }
}

#[test]
fn a_policy_that_names_a_server_that_is_not_there_is_told_at_the_line() {
    let text = "servers: [{id: docs, url: 'https://docs.example/mcp'}]\nportals:\n  - id: main\n    servers: [docs]\n    policy:\n      \
                - allow: {servers: [docs]}\n      - deny: {servers: [dcos]}\n";
    let refused = refusal(text);
    assert!(refused.contains("gnomon.yml:7:") && refused.ends_with("no server is called `dcos`; did you mean `docs`?"), "{refused}");
    // A pattern may fit none yet, and what another portal offers is there.
    parse(
        "servers: [{id: docs, url: 'https://docs.example/mcp'}, {id: b, url: 'https://b.example/mcp'}]\n\
           portals: [{id: main, servers: [docs], policy: [{allow: {servers: ['x*', b]}}]}]\n",
    )
    .unwrap();
}

#[test]
fn what_is_read_again_is_a_regular_file() {
    let dir = tempfile::tempdir().unwrap();
    let error = Config::load_again(dir.path()).unwrap_err();
    assert!(error.cause.ends_with("it is not a regular file"), "{error}");
    let pipe = dir.path().join("gnomon.yml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = Config::load_again(&pipe).unwrap_err();
    assert!(error.cause.ends_with("it is not a regular file"), "{error}");
}
