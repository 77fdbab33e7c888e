"""An MCP server over HTTP with one tool, for the tests: prints its port."""
import http.server
import json

TOOL = {"name": "echo", "inputSchema": {"type": "object"}}


class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        said = json.loads(self.rfile.read(int(self.headers["content-length"])))
        results = {
            "initialize": {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "test", "version": "1"},
            },
            "ping": {},
            "tools/list": {"tools": [TOOL]},
            "tools/call": {"content": [{"type": "text", "text": "done by the server"}]},
        }
        if "id" not in said:
            return self.answer(202, b"")
        result = results.get(said["method"])
        answer = {"jsonrpc": "2.0", "id": said["id"]}
        answer |= {"result": result} if result is not None else {"error": {"code": -32601, "message": "unknown"}}
        self.answer(200, json.dumps(answer).encode())

    def do_GET(self):
        self.answer(405, b"")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
print(server.server_address[1], flush=True)
server.serve_forever()
