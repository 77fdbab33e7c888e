//! HTTP: heads, content codings and bodies, and how much of them is held back until a [`Dialogue`](crate::Dialogue) has judged what
//! they say.

mod answer_body;
mod answer_steps;
mod charset;
mod event_text;
mod exchange;
mod first_line;
mod named;
mod post;
mod reading;
mod reply;
mod request;
mod request_body;
mod response;
mod words;

pub use answer_body::says_events;
pub use exchange::{Authority, Exchange, Gate, Head};
pub use post::Post;
pub use reply::Reply;
pub use response::{EventFlow, ResponsePlan};
