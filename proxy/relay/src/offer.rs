//! How much a portal shows to a model: every tool, their names, or a few tools that find and call the others.
//!
//! The client says so in the URL's query, as far as the portal is configured to let it. It changes what is listed and by
//! which road tools are called, never what may be called.

use smol_str::SmolStr;

/// Whether clients may, or must, use Code Mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CodeMode {
    /// Not offered.
    Off,
    /// For clients that ask for it with `?codemode=search_and_execute`.
    #[default]
    OptIn,
    /// For clients that do not ask for something else.
    DefaultOn,
    /// Everybody.
    Enforced,
}

/// Whether callers may save snippets of Code Mode, and call those that were approved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Snippets {
    /// Not allowed.
    #[default]
    Off,
    /// For callers that policy allows; a saved snippet waits for approval.
    Review,
}

/// The offer to a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offer {
    /// All tools with their whole descriptions.
    #[default]
    Full,
    /// All tools by their names, and one that tells more of them (`?optimize_context=minimize_tools`).
    Names,
    /// One tool that finds tools and one that calls them (`?optimize_context=search_and_execute`).
    Query,
    /// Two tools that run JavaScript (`?codemode=search_and_execute`).
    Code,
}

impl Offer {
    /// The offer that the query of the portal's URL asks for.
    ///
    /// # Errors
    /// A text for the person who configured the URL.
    pub fn asked_for(query: Option<&str>, mode: CodeMode) -> Result<Self, SmolStr> {
        let (mut code, mut context) = (None, None);
        for pair in query.unwrap_or_default().split('&') {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("codemode", value) => code = Some(value),
                ("optimize_context", value) => context = Some(value),
                _ => {}
            }
        }
        let context = match context {
            None | Some("off") => None,
            Some("minimize_tools") => Some(Self::Names),
            Some("search_and_execute") => Some(Self::Query),
            Some(_) => return Err("`optimize_context` is `minimize_tools`, `search_and_execute` or `off`".into()),
        };
        let wants_code = match code {
            None => matches!(mode, CodeMode::Enforced) || matches!(mode, CodeMode::DefaultOn) && context.is_none(),
            Some("off") => false,
            Some("search_and_execute") => true,
            Some(_) => return Err("`codemode` is `search_and_execute` or `off`".into()),
        };
        match (mode, wants_code) {
            (CodeMode::Off, true) => Err("this portal does not offer Code Mode: leave `codemode` out of the URL".into()),
            (CodeMode::Enforced, false) => Err("this portal offers Code Mode only: leave `codemode=off` out of the URL".into()),
            (_, true) if context.is_some() => Err("`codemode` and `optimize_context` exclude each other: leave one of them out".into()),
            (_, true) => Ok(Self::Code),
            (_, false) => Ok(context.unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_says_what_is_offered_within_what_the_portal_lets_it() {
        use CodeMode::{DefaultOn, Enforced, Off, OptIn};
        let code = Some("codemode=search_and_execute");
        for (query, mode, offer) in [
            (None, OptIn, Some(Offer::Full)),
            (code, OptIn, Some(Offer::Code)),
            (Some("x=1&codemode=search_and_execute"), OptIn, Some(Offer::Code)),
            (code, Off, None),
            (None, Off, Some(Offer::Full)),
            (Some("codemode=off"), Off, Some(Offer::Full)),
            (None, DefaultOn, Some(Offer::Code)),
            (Some("codemode=off"), DefaultOn, Some(Offer::Full)),
            (Some("optimize_context=minimize_tools"), DefaultOn, Some(Offer::Names)),
            (None, Enforced, Some(Offer::Code)),
            (Some("codemode=off"), Enforced, None),
            (Some("optimize_context=search_and_execute"), Enforced, None),
            (Some("optimize_context=search_and_execute"), OptIn, Some(Offer::Query)),
            (Some("codemode=yes"), OptIn, None),
            (Some("optimize_context=some"), OptIn, None),
            (Some("codemode=search_and_execute&optimize_context=minimize_tools"), OptIn, None),
        ] {
            assert_eq!(Offer::asked_for(query, mode).ok(), offer, "{query:?} {mode:?}");
        }
    }
}
