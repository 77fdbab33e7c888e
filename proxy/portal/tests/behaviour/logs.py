"""An MCP server of 2024-11-05 over HTTP+SSE that logs within its calls, from the level on that its session asked for."""
import itertools, json, queue, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LEVELS = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
NUMBERS = itertools.count(1)
SESSIONS = {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        number, said = str(next(NUMBERS)), queue.Queue()
        SESSIONS[number] = {"said": said, "level": "debug"}
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.event("endpoint", f"/messages?s={number}")
        while True:
            self.event("message", json.dumps(said.get()))

    def event(self, kind, data):
        self.wfile.write(f"event: {kind}\ndata: {data}\n\n".encode())
        self.wfile.flush()

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        _, _, number = self.path.partition("?s=")
        if number not in SESSIONS:
            return self.answer(405)
        self.answer(202)
        if "id" in body and "method" in body:
            self.serve(SESSIONS[number], body)

    def serve(self, session, request):
        said, params, result = session["said"], request.get("params", {}), {}
        match request["method"]:
            case "initialize":
                about = {"name": "logs", "version": "1"}
                result = {"protocolVersion": "2024-11-05", "capabilities": {"tools": {}, "logging": {}}, "serverInfo": about}
            case "tools/list":
                result = {"tools": [{"name": "log", "inputSchema": {"type": "object"}}]}
            case "logging/setLevel":
                session["level"] = params["level"]
            case "tools/call":
                for level in ("debug", "warning"):
                    # So that calls overlap.
                    time.sleep(params["arguments"].get("seconds", 0))
                    if LEVELS.index(level) >= LEVELS.index(session["level"]):
                        logged = {"level": level, "data": params["arguments"]["text"]}
                        said.put({"jsonrpc": "2.0", "method": "notifications/message", "params": logged})
                result = {"content": [{"type": "text", "text": session["level"]}]}
        said.put({"jsonrpc": "2.0", "id": request["id"], "result": result})


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
