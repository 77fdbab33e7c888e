//! How the engine reads code.

use rquickjs::context::EvalOptions;

/// The options of a script: global scope, strict mode.
pub fn options() -> EvalOptions {
    let mut options = EvalOptions::default();
    options.global = true;
    options.strict = true;
    options.filename = Some("script".to_owned());
    options
}
