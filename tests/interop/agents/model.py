"""A model that follows a script, for agents that cannot reach a real one.

It speaks the three interfaces that the agents use: Anthropic's messages, OpenAI's responses, Gemini's generateContent. The
first word of the path says which tool it wants, `http://127.0.0.1:PORT/TOOL/...`, or which script of several calls it follows.
It wants the next one for each result that the agent shows, and is content after the last. What agents say is kept, so that a
check can see what reached the model.
"""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


# Calls by the name of the script: tool and arguments.
SCRIPTS = {
    "search-and-execute": [
        ("portal_codemode_search", {"code": "async () => (await codemode.search('does what is allowed')).map(tool => tool.name)"}),
        ("portal_codemode_execute", {"code": "async () => ({ answer: await codemode.lab_allowed({}) })"}),
    ]
}


class Model:
    def __init__(self):
        self.asked = []
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                self.send("application/json", b'{"object":"list","data":[],"models":[]}')

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                _, tool, path = self.path.split("/", 2)
                request = json.loads(body or b"{}")
                model.asked.append((tool, body.decode(errors="replace")))
                self.send(*answer(tool, path, request))

            def do_HEAD(self):
                self.send("text/plain", b"")

            def send(self, kind, body):
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def heard(self, tool):
        """All that agents said while this tool was wanted."""
        return "\n".join(body for wanted, body in self.asked if wanted == tool)


def answer(tool, path, request):
    if "count_tokens" in path:
        return "application/json", b'{"input_tokens":1}'
    if re.search(r"v1/messages", path):
        return anthropic(tool, request)
    if "responses" in path:
        return openai(tool, request)
    if re.search(r"generateContent", path, re.IGNORECASE):
        return gemini(tool, request, "stream" in path)
    return "application/json", b"{}"


def stream(events, named=True):
    lines = [(f"event: {event['type']}\n" if named else "") + f"data: {json.dumps(event)}\n\n" for event in events]
    return "text/event-stream", "".join(lines).encode()


def step(script, results):
    """Which tool is wanted after so many results, and with which arguments."""
    calls = SCRIPTS.get(script, [(script, {})])
    return calls[results] if results < len(calls) else (None, {})


def count(node, key, value):
    """How often a member has this value anywhere in a document; any value where none is named."""
    if isinstance(node, list):
        return sum(count(each, key, value) for each in node)
    if not isinstance(node, dict):
        return 0
    here = key in node and (value is None or node[key] == value)
    return int(here) + sum(count(each, key, value) for each in node.values())


def wanted(tool, names):
    """The name under which an agent offers a tool of an MCP server."""
    return next((name for name in names if tool and (name == tool or name.endswith(f"_{tool}"))), None)


def anthropic(script, request):
    tool, arguments = step(script, count(request.get("messages"), "type", "tool_result"))
    use = wanted(tool, [offered["name"] for offered in request.get("tools", []) if "name" in offered])
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": request.get("model"), "content": []}
    message |= {"stop_reason": None, "stop_sequence": None, "usage": usage}
    reason = "tool_use" if use else "end_turn"
    if not request.get("stream"):
        whole = {"type": "tool_use", "id": f"toolu_{tool}", "name": use, "input": arguments} if use else {"type": "text", "text": "done"}
        return "application/json", json.dumps(message | {"content": [whole], "stop_reason": reason}).encode()
    block = {"type": "tool_use", "id": f"toolu_{tool}", "name": use, "input": {}} if use else {"type": "text", "text": ""}
    delta = {"type": "input_json_delta", "partial_json": json.dumps(arguments)} if use else {"type": "text_delta", "text": "done"}
    return stream(
        [
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": block},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": {"output_tokens": 1}},
            {"type": "message_stop"},
        ]
    )


def openai(script, request):
    tool, arguments = step(script, count(request.get("input"), "type", "function_call_output"))
    call = None
    for offered in request.get("tools", []):
        if offered.get("type") == "namespace":
            inner = wanted(tool, [each.get("name", "") for each in offered.get("tools", [])])
            call = call or (inner and {"name": inner, "namespace": offered["name"]})
        elif name := wanted(tool, [offered.get("name", "")]):
            call = call or {"name": name}
    if call:
        item = {"type": "function_call", "id": f"fc_{tool}", "call_id": f"call_{tool}", "status": "completed"}
        item |= {"arguments": json.dumps(arguments)} | call
    else:
        text = {"type": "output_text", "text": "done", "annotations": []}
        item = {"type": "message", "id": "m_1", "role": "assistant", "status": "completed", "content": [text]}
    usage = {"input_tokens": 1, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 1, "total_tokens": 2}
    usage["output_tokens_details"] = {"reasoning_tokens": 0}
    response = {"id": "resp_1", "object": "response", "status": "completed", "model": request.get("model"), "output": [item]}
    response["usage"] = usage
    return stream(
        [
            {"type": "response.created", "response": response | {"status": "in_progress", "output": []}},
            {"type": "response.output_item.added", "output_index": 0, "item": item},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": response},
        ]
    )


def gemini(script, request, streamed):
    tool, arguments = step(script, count(request.get("contents"), "functionResponse", None))
    offered = [each["name"] for tools in request.get("tools", []) for each in tools.get("functionDeclarations", [])]
    use = wanted(tool, offered)
    part = {"functionCall": {"name": use, "args": arguments}} if use else {"text": "done"}
    candidate = {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
    whole = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "scripted"}
    return stream([whole], named=False) if streamed else ("application/json", json.dumps(whole).encode())
