"""The portal as a client, for the official suite's servers: started in front of the URL at the end of the command line, with a caller
before it that lists what is there and calls each tool.

    as_client.py --gnomon FILE URL

Called by `conformance client --command`, which says by MCP_CONFORMANCE_CONTEXT what it wants to be called with.
"""

import argparse
import json
import os
import pathlib
import time

import lab
import mcp

READY_SECONDS = 10


def value(schema):
    """Something that a schema takes."""
    if "enum" in schema:
        return schema["enum"][0]
    kinds = {"integer": 2, "number": 2, "boolean": True, "array": [], "null": None, "object": {}}
    return kinds.get(schema.get("type"), "text")


def arguments(tool, offered):
    if tool["name"] == "json_schema_echo":
        # It wants to see what became of another tool's schema on the way.
        return {"schema": next(other["inputSchema"] for other in offered if other["name"] == "json_schema_2020_12_tool")}
    schema = tool.get("inputSchema") or {}
    return {name: value(one) for name, one in (schema.get("properties") or {}).items() if name in schema.get("required", [])}


def tools(client):
    """The tools, as soon as the portal has them."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        result = client.request("tools/list")
        if result["tools"] or time.monotonic() > deadline:
            return result["tools"]
        time.sleep(0.1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--gnomon", type=pathlib.Path, required=True)
    given = parser.parse_args()
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    with lab.portal(given.gnomon, {"up": given.url}, prefix="never") as portal:
        # Of the older era, so that whatever the newer one wants of a client is the portal's doing.
        client = mcp.Client(portal.url, fills_in={"confirmed": True})
        client.open()
        offered = tools(client)
        calls = [(call["name"], call.get("arguments", {})) for call in context.get("toolCalls", [])]
        for name, given_arguments in calls or [(tool["name"], arguments(tool, offered)) for tool in offered]:
            try:
                client.request("tools/call", name=name, arguments=given_arguments)
            except mcp.RpcError as error:
                print(f"{name}: {error}")


main()
