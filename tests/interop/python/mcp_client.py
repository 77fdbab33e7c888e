"""Client of the official Python SDK: mcp_client.py URL legacy|2026-07-28 h1|h2

Prints one line of JSON: the tools, and an allowed, a forbidden and a second allowed call.
"""

import asyncio
import json
import sys

import httpx2
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import Implementation

URL, ERA, HTTP = sys.argv[1:4]


async def call(client, name, arguments):
    try:
        result = await client.call_tool(name, arguments)
    except Exception as error:  # whatever a user of the SDK would see
        return {"thrown": repr(error)}
    return {"text": "".join(part.text for part in result.content), "isError": result.is_error}


async def main():
    info = Implementation(name="interop-python", version="2.3.0")
    async with httpx2.AsyncClient(http2=HTTP == "h2", timeout=30) as http:
        async with Client(streamable_http_client(URL, http_client=http), mode=ERA, client_info=info) as client:
            tools = (await client.list_tools()).tools
            seen = {"tools": sorted(tool.name for tool in tools)}
            seen["allowed"] = await call(client, "echo", {"message": "grüße"})
            seen["forbidden"] = await call(client, "forbidden", {})
            seen["after"] = await call(client, "echo", {"message": "again"})
            print(json.dumps(seen))


asyncio.run(main())
