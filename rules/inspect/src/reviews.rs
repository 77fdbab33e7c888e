//! People's decisions about servers, as they apply now. Expired approvals are reported by the caller, which has a clock; this crate has
//! none.

use crate::normal_host;
use gnomon_observe::{Field, Observation, Review};
use smol_str::SmolStr;
use std::collections::HashMap;

/// Reviews by server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reviews(HashMap<(SmolStr, u16), Review>);

impl FromIterator<(String, u16, Review)> for Reviews {
    /// Collects server names, ports and reviews.
    fn from_iter<T: IntoIterator<Item = (String, u16, Review)>>(reviews: T) -> Self {
        Self(reviews.into_iter().map(|(host, port, review)| ((SmolStr::new(normal_host(&host)), port), review)).collect())
    }
}

impl Reviews {
    /// The names of servers that are denied.
    pub(crate) fn denied(&self) -> impl Iterator<Item = &SmolStr> {
        let is_name = |host: &SmolStr| gnomon_kit::address(host).is_none();
        self.0.iter().filter(move |((host, _), review)| **review == Review::Denied && is_name(host)).map(|((host, _), _)| host)
    }

    /// The review of this server, its name already [`normal_host`].
    #[must_use]
    pub fn of(&self, host: &str, port: u16) -> Option<Review> {
        if self.0.is_empty() { None } else { self.0.get(&(SmolStr::new(host), port)).copied() }
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
    fn a_review_is_of_one_server_at_one_port() {
        let reviews: Reviews = [("MCP.example.com.".to_owned(), 443, Review::Denied)].into_iter().collect();
        assert_eq!(reviews.of("mcp.example.com", 443), Some(Review::Denied));
        assert_eq!(reviews.of("mcp.example.com", 8443), None);
        assert_eq!(reviews.of("example.com", 443), None);
    }
}
