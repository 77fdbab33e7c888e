"""An MCP server over HTTP that can be stopped as a process, or be deaf while it works; with `--one`, it does one thing at a time."""
import contextlib, json, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

deaf = False
turn = threading.Lock() if "--one" in sys.argv else contextlib.nullcontext()

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer(405, b"")

    def do_DELETE(self):
        self.answer(200, b"")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def event(self, message):
        text = f"data: {json.dumps(message)}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))
        self.wfile.flush()

    def do_POST(self):
        with turn:
            self.answer_one()

    def answer_one(self):
        global deaf
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        method, params = request["method"], request.get("params", {})
        if "id" not in request:
            return self.answer(202, b"")
        arguments = params.get("arguments", {})
        while deaf and method != "tools/call":
            time.sleep(0.1)
        result = {}
        if method == "initialize":
            result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "freezes", "version": "1"}}
        elif method == "tools/list":
            result = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("echo", "wait", "work")]}
        elif method == "tools/call" and params["name"] == "wait":
            time.sleep(arguments["seconds"])
        elif method == "tools/call" and params["name"] == "work":
            # Tells of its progress, and answers nobody else meanwhile.
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            deaf = True
            for step in range(arguments["seconds"]):
                token = params.get("_meta", {}).get("progressToken", 0)
                self.event({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": step}})
                time.sleep(1)
            deaf = False
            self.event({"jsonrpc": "2.0", "id": request["id"], "result": {"content": [{"type": "text", "text": "worked"}]}})
            self.wfile.write(b"0\r\n\r\n")
            return
        elif method not in ("ping", "tools/call"):
            return self.answer(200, json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": "?"}}).encode())
        if method == "tools/call":
            result = {"content": [{"type": "text", "text": "done"}]}
        self.answer(200, json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode())

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
