//! The entry of [`Passage`] for a connection's first bytes.

use crate::first_bytes::{Line, first_line, may_ask_a_proxy, server_says_http};
use gnomon_inspect::Passage;

/// The entry for a line that is not read as HTTP, if it is decided.
pub(crate) fn passage_of(line: Line, said: &[u8], foreign: Passage) -> Option<Passage> {
    match line {
        Line::Odd | Line::Long if may_ask_a_proxy(said) => Some(Passage::OtherProxyOdd),
        Line::Odd => Some(Passage::RequestLineOdd),
        Line::Long => Some(Passage::RequestLineLong),
        Line::Hello => Some(Passage::HelloUnreadable),
        Line::Foreign | Line::Strange => Some(foreign),
        Line::Http(_) | Line::Maybe => None,
    }
}

/// True if the client sent the beginning of a line, whose rest is to be checked as it passes.
pub(crate) fn line_goes_on(passage: Passage, said: &[u8]) -> bool {
    match passage {
        Passage::LineUnfinished => true,
        Passage::Foreign => first_line(said) == Line::Strange,
        _ => false,
    }
}

/// The entry for a server that spoke first.
pub(crate) fn server_first(heard: &[u8]) -> Passage {
    if server_says_http(heard) { Passage::ServerFirstHttp } else { Passage::ServerFirst }
}
