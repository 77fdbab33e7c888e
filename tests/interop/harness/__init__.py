"""Real clients and servers through the proxy; see ../README.md."""
