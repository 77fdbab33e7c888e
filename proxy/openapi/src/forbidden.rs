//! The names that no argument may set, even if a document says so: those of the connection, of credentials, and those that would turn a
//! request into another one than its operation says.

/// True if no argument may set this header.
pub fn header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let listed = matches!(
        &*name,
        "host"
            | "authorization"
            | "cookie"
            | "cookie2"
            | "content-length"
            | "content-type"
            | "content-encoding"
            | "accept"
            | "accept-encoding"
            | "connection"
            | "keep-alive"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "expect"
            | "via"
            | "forwarded"
            | "origin"
            | "referer"
            | "user-agent"
            | "date"
            | "x-real-ip"
            | "x-original-url"
            | "x-rewrite-url"
            // These make a GET something else than a GET.
            | "x-http-method"
            | "x-http-method-override"
            | "x-method-override"
    );
    listed || ["proxy-", "sec-", "x-forwarded-"].iter().any(|start| name.starts_with(start))
}

/// True if no credential may be put into this header.
pub fn credential_header(name: &str) -> bool {
    !matches!(&*name.to_ascii_lowercase(), "authorization" | "cookie") && header(name)
}

/// True if no argument may use this name in a query or form: some servers take another method from it.
pub fn query(name: &str) -> bool {
    name.eq_ignore_ascii_case("_method")
}
