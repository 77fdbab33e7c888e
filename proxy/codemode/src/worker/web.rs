//! Parts of the web's built-ins that are done outside of the engine, which is slow at bytes: texts, URLs, randomness. Nothing here reaches
//! outside the process.

use rquickjs::{Ctx, Exception, Function, Object, TypedArray, Value};
use serde_json::json;
use url::Url;

const WEB: &str = include_str!("web.js");

/// Gives the engine's world the web's small built-ins.
pub fn furnish(ctx: &Ctx<'_>) -> Result<(), rquickjs::Error> {
    let native = Object::new(ctx.clone())?;
    native.set("encode", Function::new(ctx.clone(), encoded)?)?;
    native.set("bytes", Function::new(ctx.clone(), bytes)?)?;
    native.set("label", Function::new(ctx.clone(), |label: String| label_of(&label))?)?;
    native.set("decode", Function::new(ctx.clone(), |hex: String, label: String| decoded(&hex, &label))?)?;
    native.set("random", Function::new(ctx.clone(), random)?)?;
    native.set("url", Function::new(ctx.clone(), |text: String, base: String, based: bool| url(&text, based.then_some(base.as_str())))?)?;
    native.set("urlWith", Function::new(ctx.clone(), |text: String, part: String, value: String| changed(&text, &part, &value))?)?;
    let mut named = super::options::options();
    named.filename = Some("web".to_owned());
    let begin: Function<'_> = ctx.eval_with_options(WEB, named)?;
    begin.call((native,))
}

fn encoded(ctx: Ctx<'_>, text: String) -> Result<Value<'_>, rquickjs::Error> {
    TypedArray::<u8>::new(ctx, text.into_bytes()).map(TypedArray::into_value)
}

/// The bytes of a text whose characters are bytes, as the web writes them where it has no other type.
fn bytes(ctx: Ctx<'_>, text: String) -> Result<Option<Value<'_>>, rquickjs::Error> {
    let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    bytes.map(|bytes| TypedArray::<u8>::new(ctx, bytes).map(TypedArray::into_value)).transpose()
}

fn random(ctx: Ctx<'_>, count: usize) -> Result<Value<'_>, rquickjs::Error> {
    let mut bytes = vec![0; count.min(1 << 16)];
    getrandom::fill(&mut bytes).map_err(|_| Exception::throw_message(&ctx, "there is no randomness"))?;
    TypedArray::<u8>::new(ctx, bytes).map(TypedArray::into_value)
}

/// The encoding that a label means (Encoding Standard, 4.2), of those that are known here.
fn label_of(label: &str) -> &'static str {
    match label.trim().to_ascii_lowercase().as_str() {
        "utf-8" | "utf8" | "unicode-1-1-utf-8" => "utf-8",
        "utf-16le" | "utf-16" | "ucs-2" | "unicode" => "utf-16le",
        "latin1" | "iso-8859-1" | "ascii" | "us-ascii" => "latin1",
        _ => "",
    }
}

/// A text of bytes, after `!` where some of them were none.
fn decoded(hex: &str, label: &str) -> String {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
    let bytes: Vec<u8> = hex.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
    let (text, whole) = match label {
        "utf-8" => match String::from_utf8(bytes) {
            Ok(text) => (text, true),
            Err(error) => (String::from_utf8_lossy(error.as_bytes()).into_owned(), false),
        },
        "utf-16le" => {
            let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
            let text = String::from_utf16(&units);
            let whole = text.is_ok() && bytes.len().is_multiple_of(2);
            (text.unwrap_or_else(|_| String::from_utf16_lossy(&units)), whole)
        }
        _ => (bytes.iter().map(|byte| char::from(*byte)).collect(), true),
    };
    // A mark of the order of bytes is none of the text, but for what Base64 held.
    let text = if label == "binary" { text.as_str() } else { text.strip_prefix('\u{feff}').unwrap_or(&text) };
    format!("{}{text}", if whole { ' ' } else { '!' })
}

/// The parts of a URL as JSON; nothing if it is none.
fn url(text: &str, base: Option<&str>) -> String {
    let parsed = match base {
        Some(base) => Url::parse(base).and_then(|base| base.join(text)),
        None => Url::parse(text),
    };
    parsed.map(|url| parts(&url)).unwrap_or_default()
}

/// The parts of a URL with one of them changed; an empty text where that is not possible, and nothing happens then.
fn changed(text: &str, part: &str, value: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return String::new() };
    let done = match part {
        "href" => return self::url(value, None),
        "protocol" => url::quirks::set_protocol(&mut url, value),
        "username" => url::quirks::set_username(&mut url, value),
        "password" => url::quirks::set_password(&mut url, value),
        "host" => url::quirks::set_host(&mut url, value),
        "hostname" => url::quirks::set_hostname(&mut url, value),
        "port" => url::quirks::set_port(&mut url, value),
        "pathname" => {
            url::quirks::set_pathname(&mut url, value);
            Ok(())
        }
        "search" => {
            url::quirks::set_search(&mut url, value);
            Ok(())
        }
        "hash" => {
            url::quirks::set_hash(&mut url, value);
            Ok(())
        }
        _ => Err(()),
    };
    if done.is_ok() { parts(&url) } else { String::new() }
}

fn parts(url: &Url) -> String {
    use url::quirks;
    json!({
        "href": quirks::href(url), "origin": quirks::origin(url), "protocol": quirks::protocol(url), "username": quirks::username(url),
        "password": quirks::password(url), "host": quirks::host(url), "hostname": quirks::hostname(url), "port": quirks::port(url),
        "pathname": quirks::pathname(url), "search": quirks::search(url), "hash": quirks::hash(url),
    })
    .to_string()
}
