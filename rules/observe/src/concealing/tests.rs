use super::*;

#[test]
fn addresses_are_written_without_users_and_secret_parameters() {
    for (uri, written) in [
        ("file:///srv/plan.md", "file:///srv/plan.md"),
        ("db://host/table?id=1&page=2#top", "db://host/table?id=1&page=2#top"),
        ("https://u:pw@h.example/x?token=abc", "https://***@h.example/x?token=***"),
        ("https://h.example/x?a=1&api_key=abc&b=2", "https://h.example/x?a=1&api_key=***&b=2"),
        ("https://u:p@w@h/x", "https://***@h/x"),
        ("mailto:ada@example.com", "mailto:ada@example.com"),
        ("x://h?token=", "x://h?token="),
        ("x?secret=a#b", "x?secret=***#b"),
        ("https://h.example/x#access_token=abc&b=2", "https://h.example/x#access_token=***&b=2"),
        ("https://h.example/x?a=1#token=abc", "https://h.example/x?a=1#token=***"),
        ("https://h.example/x?%74oken=abc", "https://h.example/x?%74oken=***"),
        ("https://h.example/x;password=abc", "https://h.example/x;password=***"),
        ("https://h.example;password=abc", "https://h.example;password=***"),
        ("https://h.example/x;v=1/y;password=abc?b=2", "https://h.example/x;v=1/y;password=***?b=2"),
        ("https://u:p;w@h.example/x", "https://***@h.example/x"),
        ("https://u:p&w@h.example/x", "https://***@h.example/x"),
        ("//u:pw@h.example/x", "//***@h.example/x"),
        ("nosuch+https://u:pw@h/?api_key=abc", "nosuch+https://***@h/?api_key=***"),
        ("https://h/c/f.csv?sv=2024&sig=abc%3D&se=9", "https://h/c/f.csv?sv=2024&sig=***&se=9"),
        ("https://h/x?key=abc&KEY=d&code=e", "https://h/x?key=***&KEY=***&code=***"),
        ("https://h/mcp/api_key=abc/tools", "https://h/mcp/api_key=***/tools"),
        ("password=abc", "password=***"),
        ("agent/1.0;token=abc", "agent/1.0;token=***"),
        ("Bearer abc", "Bearer ***"),
        ("echo_ghp_0123456789abcdefghijABCDEFGHIJ012345", "echo_***"),
        ("file:///srv/ghp_0123456789abcdefghijABCDEFGHIJ012345/x", "file:///srv/***/x"),
        ("curl/8.5.0 (x86_64; key ring)", "curl/8.5.0 (x86_64; key ring)"),
    ] {
        assert_eq!(without_secrets(uri), written, "{uri}");
    }
}

/// A secret of no service's form.
const SECRET: &str = "Kk9mWt4LsBd7RnYp2HcJf5GxEa3";

/// Texts in which `{}` is a secret.
const FORMS: &[&str] = &[
    "Bearer {}",
    "agent Bearer {}",
    "agent (Bearer {})",
    "agent bearer {} x",
    "BEARER {}",
    "Authorization: Bearer {}",
    "Authorization=Bearer {}",
    "authorization:bearer {}",
    "Proxy-Authorization: Basic {}",
    "Authorization: token {}",
    "Authorization: {}",
    "a=Bearer {}",
    "Bearer: {}",
    "Bearer={}",
    "\"Bearer {}\"",
    "{\"h\":\"Bearer {}\"}",
    "{\\\"h\\\":\\\"Bearer {}\\\"}",
    "x/Bearer {}",
    "x;Bearer {}",
    "x_Bearer {}",
    "Bearer  {}",
    "Bearer\t{}",
    "Bearer\u{a0}{}",
    "Bearer%20{}",
    "Bearer%2520{}",
    "Bearer+{}",
    "agent Bearer {}/1.0",
    "cmd -H \"Authorization: Bearer {}\"",
    "Basic dXNlcjp7{}",
    "token {}",
    "cmd --token {} x",
    "api_key: {}",
    "passwd:{}",
    "x passwd:{} y",
    "password=\"{}\"",
    "password='a b {}'",
    "{\"client_secret\":\"{}\"}",
    "{\\\"db_password\\\":\\\"{}\\\",\\\"user\\\":1}",
    "config[\"api_key\"] = \"{}\"",
    "API_TOKEN := {}",
    "Cookie: a=b; session={}",
    "https://h/?redirect=https%3A%2F%2Fx%2F%3Ftoken%3D{}",
    "https://h/?a=https%253A%252F%252Fx%252F%253Ftoken%253D{}",
    "https://u:{}@h.example/",
    "https://{}@h.example/",
    "https:\\\\u:{}@h/",
    "https:\\/\\/u:{}@h/",
    "https:/u:{}@h/",
    "//u:{}@h/",
    "see https://a.example/x and https://u:{}@h/",
    "https%3A%2F%2Fu%3A{}%40h%2F",
    "redis://:{}@h:6379",
    "https://b.s3.example/x?X-Amz-Signature={}",
    "https://x.example/?sig={}",
    "https://x.example/?a=1&sig={}&b=2",
    "see https://x.example/?sig={} and more",
    "https://h/?session_key={}",
    "https://h/?%74oken={}",
    "https://h/x?token=a?b{}",
    "https://h/x;password={}",
    "https://h/mcp/api_key={}/tools",
    "-----BEGIN OPENSSH PRIVATE KEY-----\\n{}",
    "x -----BEGIN PRIVATE KEY----- {} -----END PRIVATE KEY-----",
];

/// Tokens of services, as they begin.
const TOKENS: &[&str] = &[
    "ghp_",
    "gho_",
    "sk-proj-",
    "sk-ant-",
    "xoxb-",
    "glpat-",
    "AIza",
    "hf_",
    "npm_",
    "sk_live_",
    "github_pat_",
    "gnomon_",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.",
];

/// Where such a text may stand.
const PLACES: &[&str] = &["{}", "x {}", "x\n{}", "({})", "[\"{}\"]", "ä {} ö"];

#[test]
fn no_form_of_a_secret_is_written_wherever_it_stands() {
    let tokens = TOKENS.iter().flat_map(|token| {
        ["{}", "x_{}", "/a/{}/b", "a={}&b", "x-{}.tar", "{\"{}\":1}"].map(|form| form.replacen("{}", &format!("{token}{{}}AAAAAAAAA1"), 1))
    });
    for form in FORMS.iter().map(|form| (*form).to_owned()).chain(tokens) {
        for place in PLACES {
            let text = place.replacen("{}", &form.replace("{}", SECRET), 1);
            let written = without_secrets(&text);
            assert!(
                !written.contains(&SECRET[..6]) && !written.contains(&SECRET[20..]) && written.contains(CONCEALED),
                "{text}: {written}"
            );
            assert_eq!(without_secrets(&written), written, "what is written once is not written otherwise");
        }
    }
}

#[test]
fn what_people_say_and_name_is_written_as_it_is() {
    for text in [
        "bearer_tool",
        "the bearer of news",
        "the bearer of authentication tokens",
        "Bearer authentication required",
        "Bearer token-based access",
        "basic search",
        "Basic usage of this server",
        "Basic 2025-06-18",
        "agent/1.0 basic/2.31.4567",
        "get_secret_value",
        "secrets/list",
        "secret:list",
        "/v1/secrets:list",
        "/v1/projects/p/tokens:revoke",
        "Token::new and secret::Key",
        "secret://vault/x",
        "http://token-server:8080/mcp",
        "token-server.example:443",
        "max_tokens: 4096",
        "{\"has_password\": true, \"token\": null}",
        "token=${TOKEN}",
        "token by token",
        "npm:@scope/server-token@1.2.3",
        "node_modules//@scope/x",
        "C:\\Users\\ada",
        "ada@example.com",
        "2025-11-25T10:00:00Z",
        "100 % of all, 50%25",
        "",
        "***",
        "Bearer ***",
        "größe: 3.5 MiB = viel",
        "-----BEGIN CERTIFICATE-----",
        "curl/8.5.0 (x86_64; rv:109.0)",
    ] {
        assert_eq!(without_secrets(text), text);
    }
}

#[test]
fn what_a_session_is_told_by_stays_but_for_what_is_marked() {
    let id = format!("ghp_{SECRET}AAAAAAAAA");
    assert_eq!(without(&id, Forms::Marked), id);
    assert_eq!(without(&format!("{id}?token={SECRET}"), Forms::Marked), format!("{id}?token=***"));
}

#[test]
fn time_grows_with_the_text_and_no_faster() {
    for part in [
        "Bearer=",
        "bearer ",
        "token:",
        "token=\"",
        "token=\"\\",
        "sk-",
        "a_sk-",
        "https://",
        "//u:",
        "--token ",
        "%25",
        "%2525",
        "-----BEGIN ",
        "x@",
        "cookie:",
        "authorization: ",
        "PRIVATE KEY",
        "eyJ.",
        "''",
        "key=$(",
        "token : ",
    ] {
        let text = part.repeat(1 << 16);
        let begun = std::time::Instant::now();
        let _ = without_secrets(&text);
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{part}");
    }
}
