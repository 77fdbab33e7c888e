"""Python's own http.server, acting on whatever it can take for a call: acting_server.py PORT RAN [CERT KEY]

It is as forgiving as servers come: no header but the body's length matters to it, nor what stands before the message. Each call leaves a
line in the file RAN. No path and no header of it says MCP.
"""

import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, RAN, *TLS = sys.argv[1:]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        message = json.JSONDecoder().raw_decode(body[body.index(b'{"jsonrpc"') :].decode())[0]
        if message["method"] == "tools/call":
            with open(RAN, "a") as trace:
                trace.write("http.server\n")
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_post = do_POST


server = ThreadingHTTPServer(("127.0.0.1", int(PORT)), Handler)
if TLS:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*TLS)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
