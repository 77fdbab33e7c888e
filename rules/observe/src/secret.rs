//! Names of secrets, one list for headers, parameters, options and members.

/// The replacement for values that are not written.
pub const CONCEALED: &str = "***";

/// Parts of names, without punctuation.
const SECRET: [&str; 14] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "authkey",
    "privatekey",
    "authorization",
    "cookie",
    "credential",
    "signature",
    "sessionkey",
];

/// True if the value of a header, parameter, option or member of this name is secret, as far as a name can tell: punctuation and case do
/// not count, and it errs towards secret.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    SECRET.iter().any(|part| plain.contains(part))
}

/// Names of parameters whose values are secret where nothing else is called so.
const SECRET_PARAMETERS: [&str; 7] = ["key", "auth", "pass", "pwd", "sig", "code", "pat"];

/// True if the value of a parameter of this name in an address is secret: [`is_secret_name`], or a short name that stands for one there
/// (`sig` of shared access signatures, `key` of Google, `code` of a login).
#[must_use]
pub fn is_secret_parameter(name: &str) -> bool {
    is_secret_name(name) || SECRET_PARAMETERS.iter().any(|secret| name.eq_ignore_ascii_case(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_is_secret_whatever_their_punctuation() {
        for name in [
            "apikey",
            "X-Api-Key",
            "x_auth_key",
            "Authorization",
            "Proxy-Authorization",
            "set-cookie",
            "x-password",
            "API_TOKEN",
            "sig-nature",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["accept", "mcp-session-id", "x-request-id", "user-agent", "key", "author", "content-type"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }
}
