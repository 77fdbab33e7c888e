"""Hypercorn, which turns to HTTP/2 wherever a client asks it to, acting on calls: h2c_server.py PORT RAN [CERT KEY]

Each call leaves a line in the file RAN.
"""

import asyncio
import json
import sys

from hypercorn.asyncio import serve
from hypercorn.config import Config

PORT, RAN, *TLS = sys.argv[1:]


async def act(scope, receive, send):
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event.get("body", b""), event.get("more_body", False)
    if body and json.loads(body)["method"] == "tools/call":
        with open(RAN, "a") as trace:
            trace.write("hypercorn\n")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


config = Config()
config.bind = [f"127.0.0.1:{PORT}"]
if TLS:
    config.certfile, config.keyfile = TLS
asyncio.run(serve(act, config))
