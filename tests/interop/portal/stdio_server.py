"""The smallest MCP server on standard input and output, of 2025-11-25."""

import json
import os
import sys

TOOLS = [{"name": name, "inputSchema": {"type": "object"}} for name in ("echo", "who")]

for line in sys.stdin:
    message = json.loads(line)
    method, params = message.get("method"), message.get("params", {})
    if "id" not in message:
        continue
    error, result = None, None
    if method == "initialize":
        about = {"name": "stdio", "version": "1"}
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": about}
    elif method == "tools/list":
        result = {"tools": TOOLS}
    elif method == "tools/call":
        if params.get("arguments", {}).get("text") == "die":
            os._exit(3)
        text = "stdio" if params["name"] == "who" else params.get("arguments", {}).get("text", "")
        result = {"content": [{"type": "text", "text": text}]}
    elif method == "ping":
        result = {}
    else:
        error = {"code": -32601, "message": "Method not found"}
    answer = {"jsonrpc": "2.0", "id": message["id"]} | ({"error": error} if error else {"result": result})
    print(json.dumps(answer), flush=True)
