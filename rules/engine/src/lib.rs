//! Sigma rules compiled to phases and judged.
