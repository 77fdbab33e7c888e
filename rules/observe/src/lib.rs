//! What gnomon knows about one thing it saw: fields, observations, phases, verdicts.
