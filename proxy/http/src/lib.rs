//! TLS, certificates, dialling and pools that intercept and portal share.
