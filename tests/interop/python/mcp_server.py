"""A real MCP server over TLS, h1, with sessions for clients that initialize.

mcp_server.py PORT CERT KEY RAN. Tool `forbidden` leaves a line in the file RAN, so that a check can
tell whether it was reached.
"""

import sys

import uvicorn
from mcp.server import MCPServer

PORT, CERT, KEY, RAN = sys.argv[1:5]
server = MCPServer("interop-python")


@server.tool(structured_output=False)
def echo(message: str) -> str:
    """Echo a message"""
    return f"Echo: {message}"


@server.tool(structured_output=False)
def forbidden() -> str:
    """Leave a trace"""
    with open(RAN, "a") as trace:
        trace.write("python\n")
    return "forbidden ran"


uvicorn.run(
    server.streamable_http_app(host="127.0.0.1"),
    host="127.0.0.1",
    port=int(PORT),
    ssl_certfile=CERT,
    ssl_keyfile=KEY,
    log_level="warning",
)
