//! One exchange, from bytes to verdicts: the judge that the proxy and replay share.
