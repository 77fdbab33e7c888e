//! What happened, durably: events, inventory, metrics of the writer.
