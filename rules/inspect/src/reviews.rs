//! People's decisions about servers, as they apply now. Expired approvals are reported by the caller, which has a clock; this crate has
//! none.

use crate::normal_host;
use gnomon_observe::{Field, Observation, Review};
use smol_str::SmolStr;
use std::collections::HashMap;

/// Reviews by server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reviews {
    by: HashMap<(SmolStr, u16), Review>,
    /// The names of servers that are denied, sorted, each once.
    denied: Vec<SmolStr>,
}

impl FromIterator<(String, u16, Review)> for Reviews {
    /// Collects server names, ports and reviews.
    fn from_iter<T: IntoIterator<Item = (String, u16, Review)>>(reviews: T) -> Self {
        let by: HashMap<_, _> =
            reviews.into_iter().map(|(host, port, review)| ((SmolStr::new(normal_host(&host)), port), review)).collect();
        let is_denied =
            |((host, _), review): &(&(SmolStr, u16), &Review)| **review == Review::Denied && gnomon_kit::address(host).is_none();
        let mut denied: Vec<_> = by.iter().filter(is_denied).map(|((host, _), _)| host.clone()).collect();
        denied.sort_unstable();
        denied.dedup();
        Self { by, denied }
    }
}

impl Reviews {
    /// The names of servers that are denied, in order of the alphabet.
    pub(crate) fn denied(&self) -> &[SmolStr] {
        &self.denied
    }

    /// The review of this server, its name already [`normal_host`].
    #[must_use]
    pub fn of(&self, host: &str, port: u16) -> Option<Review> {
        if self.by.is_empty() { None } else { self.by.get(&(SmolStr::new(host), port)).copied() }
    }
}

/// Writes into an observation whether the server is sanctioned: by configuration or by approval, and never
/// against a denial.
pub(crate) fn describe(seen: &mut Observation, configured: bool, review: Option<Review>) {
    let sanctioned = match review {
        Some(Review::Denied) => false,
        Some(Review::Approved) => true,
        Some(Review::InReview | Review::Expired) | None => configured,
    };
    seen.set(Field::Sanctioned, sanctioned);
    match review {
        Some(review) => seen.set(Field::ServerReview, review.as_str()),
        None => seen.clear(Field::ServerReview),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_observe::{Lookup, Value};

    #[test]
    fn approval_sanctions_and_denial_stands_above_the_configuration() {
        for (configured, review, sanctioned) in [
            (false, None, false),
            (true, None, true),
            (false, Some(Review::Approved), true),
            (true, Some(Review::Denied), false),
            (false, Some(Review::InReview), false),
            (true, Some(Review::Expired), true),
        ] {
            let mut seen = Observation::new();
            describe(&mut seen, configured, review);
            assert_eq!(seen.get(Field::Sanctioned), Lookup::Value(&Value::Bool(sanctioned)), "{configured} {review:?}");
            assert_eq!(seen.text(Field::ServerReview), review.map(Review::as_str));
        }
    }

    #[test]
    fn denied_names_are_in_order_and_each_is_there_once() {
        let hosts = ["b.example", "a.example", "192.0.2.1", "b.example"];
        let reviews = hosts.into_iter().zip(1..).map(|(host, port)| (host.to_owned(), port, Review::Denied));
        let reviews: Reviews = reviews.chain([("c.example".to_owned(), 443, Review::Approved)]).collect();
        assert_eq!(reviews.denied(), ["a.example", "b.example"]);
    }

    #[test]
    fn a_review_is_of_one_server_at_one_port() {
        let reviews: Reviews = [("MCP.example.com.".to_owned(), 443, Review::Denied)].into_iter().collect();
        assert_eq!(reviews.of("mcp.example.com", 443), Some(Review::Denied));
        assert_eq!(reviews.of("mcp.example.com", 8443), None);
        assert_eq!(reviews.of("example.com", 443), None);
    }
}
