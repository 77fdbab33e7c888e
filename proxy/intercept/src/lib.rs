//! The inline proxy: accept, hello, TLS, head, message, answer.
