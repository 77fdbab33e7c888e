"""An MCP server over HTTPS with two tools, in the standard library: what it is asked to run it runs, and remembers."""

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOOLS = ("allowed", "forbidden")


class McpServer:
    def __init__(self, certificate, key):
        self.ran = []
        mcp = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                # No stream of its own, and no authorisation to discover.
                self.answer(405 if self.path == "/mcp" else 404)

            def do_DELETE(self):
                self.answer(405)

            def do_POST(self):
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if "id" not in message or "method" not in message:
                    return self.answer(202)
                result = mcp.result(message["method"], message.get("params") or {})
                reply = {"result": result} if result is not None else {"error": {"code": -32601, "message": "no such method"}}
                self.answer(200, {"jsonrpc": "2.0", "id": message["id"]} | reply)

            def answer(self, status, document=None):
                body = b"" if document is None else json.dumps(document).encode()
                self.send_response(status)
                if body:
                    self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def finish_request(self, request, client_address):
                try:
                    with context.wrap_socket(request, server_side=True) as tls:
                        super().finish_request(tls, client_address)
                except OSError:
                    # A client that went away, or did not like the certificate, which its own check shows.
                    pass

        server = Server(("127.0.0.1", 0), Handler)
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def result(self, method, params):
        if method == "initialize":
            info = {"name": "agents-lab", "version": "1.0"}
            version = params.get("protocolVersion")
            version = version if version in ("2025-03-26", "2025-06-18", "2025-11-25") else "2025-11-25"
            return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
        if method == "tools/list":
            schema = {"type": "object", "properties": {}}
            return {"tools": [{"name": name, "description": f"Does what is {name}", "inputSchema": schema} for name in TOOLS]}
        if method == "tools/call":
            self.ran.append(params["name"])
            return {"content": [{"type": "text", "text": f"the server ran {params['name']}"}]}
        return {} if method == "ping" else None
