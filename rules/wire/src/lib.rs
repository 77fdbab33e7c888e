//! Bytes to facts: JSON-RPC scanner, ClientHello, SSE, content decoders, MCP signatures.
