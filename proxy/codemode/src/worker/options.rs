//! How the engine reads code.

use rquickjs::context::EvalOptions;

/// Those of a script: in the global scope, in strict mode.
pub fn options() -> EvalOptions {
    let mut options = EvalOptions::default();
    options.global = true;
    options.strict = true;
    options.filename = Some("script".to_owned());
    options
}
