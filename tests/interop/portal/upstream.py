"""A small MCP server of any era, whose failures are chosen: it runs in this process, so that a check can turn them on and off.

Serves `echo` and `who`. What it was asked, with its headers, is in `asked`.
"""

import http.server
import json
import queue
import socket
import threading
import time
import uuid

MODERN = "2026-07-28"
ERAS = ("dual", "legacy", "modern", "sse")
TOOLS = [
    {
        "name": name,
        "description": f"The tool {name}",
        "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}, "message": {"type": "string"}}},
    }
    for name in ("echo", "who")
]
HUGE = 96 << 20


class Upstream:
    """`fault` is what is wrong with it now: None, "frozen", "slow", or one of the lies in `lie`."""

    def __init__(self, name, era="dual", port=0):
        self.name, self.era, self.fault = name, era, None
        self.sessions, self.asked, self.streams = set(), [], {}
        self.open, self.thawed = set(), threading.Event()
        self.server = None
        self.port = port
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/{'sse' if self.era == 'sse' else 'mcp'}"

    def start(self):
        upstream = self

        class Handler(_Handler):
            fixture = upstream

        self.server = _Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        """As a process that dies: nobody listens, every connection is gone, and so are the sessions."""
        server, self.server = self.server, None
        if server:
            server.shutdown()
            server.server_close()
        self.sessions.clear()
        self.thawed.set()
        for connection in list(self.open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def freeze(self):
        """As one that was sent SIGSTOP: connections are accepted by the kernel, and nothing answers."""
        self.thawed.clear()
        self.fault = "frozen"

    def thaw(self):
        self.fault = None
        self.thawed.set()

    def forget(self):
        self.sessions.clear()

    def result(self, method, params, modern):
        own = {"_meta": {"io.modelcontextprotocol/serverInfo": {"name": self.name, "version": "1"}}} if modern else {}
        done = {"resultType": "complete"} | own if modern else {}
        cached = done | ({"ttlMs": 0, "cacheScope": "public"} if modern else {})
        match method:
            case "server/discover" if modern:
                return cached | {"supportedVersions": [MODERN], "capabilities": {"tools": {}}}
            case "tools/list":
                return cached | {"tools": TOOLS}
            case "tools/call" if params.get("name") in ("echo", "who"):
                given = params.get("arguments", {})
                text = self.name if params["name"] == "who" else given.get("text", given.get("message", ""))
                return done | {"content": [{"type": "text", "text": text}]}
            case "ping" if not modern:
                return {}
        return None


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """A connection that was broken on purpose is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    fixture = None

    def setup(self):
        super().setup()
        self.fixture.open.add(self.connection)

    def finish(self):
        self.fixture.open.discard(self.connection)
        super().finish()

    def log_message(self, *_):
        pass

    def do_DELETE(self):
        self.fixture.sessions.discard(self.headers.get("mcp-session-id"))
        self.reply(200)

    def do_GET(self):
        if self.fixture.era != "sse":
            return self.reply(405)
        name, waiting = uuid.uuid4().hex, queue.Queue()
        self.fixture.streams[name] = waiting
        self.begin_events()
        self.wfile.write(f"event: endpoint\ndata: /message?sessionId={name}\n\n".encode())
        while True:
            self.wfile.write(f"event: message\ndata: {json.dumps(waiting.get())}\n\n".encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        message = json.loads(body)
        upstream = self.fixture
        upstream.asked.append((message, dict(self.headers.items())))
        if upstream.fault == "frozen":
            upstream.thawed.wait()
        if upstream.fault == "slow":
            time.sleep(3)
        if upstream.era == "sse":
            return self.post_to_stream(message)
        if upstream.fault and upstream.fault.startswith("lie") and message.get("method") == "tools/call":
            return self.lie(message)
        return self.answer(message)

    def post_to_stream(self, message):
        stream = self.fixture.streams.get(self.path.partition("sessionId=")[2])
        if stream is None:
            # The address of the stream takes GET alone, by which a client tells this transport.
            return self.reply(405)
        if "id" in message and "method" in message:
            stream.put(self.legacy_answer(message))
        return self.reply(202)

    def answer(self, message):
        upstream, params = self.fixture, message.get("params", {})
        modern = "io.modelcontextprotocol/protocolVersion" in params.get("_meta", {}) or self.headers.get("mcp-protocol-version") == MODERN
        if modern and upstream.era == "legacy":
            return self.reply(400, self.error(message, -32600, "Bad Request: Unsupported protocol version"))
        if not modern and upstream.era == "modern":
            unsupported = self.error(message, -32022, "Unsupported protocol version")
            unsupported["error"]["data"] = {"supported": [MODERN], "requested": params.get("protocolVersion", "")}
            return self.reply(400, unsupported)
        if modern:
            if self.headers.get("mcp-method") != message["method"] or self.headers.get("mcp-name", params.get("name")) != params.get("name"):
                return self.reply(400, self.error(message, -32020, "Header mismatch"))
            result = upstream.result(message["method"], params, True)
            unknown = self.error(message, -32601, "Method not found")
            return self.reply(200, self.success(message, result)) if result is not None else self.reply(404, unknown)
        if message.get("method") == "initialize":
            session = uuid.uuid4().hex
            upstream.sessions.add(session)
            return self.reply(200, self.legacy_answer(message), **{"mcp-session-id": session})
        if self.headers.get("mcp-session-id") not in upstream.sessions:
            return self.reply(404, self.error(message, -32001, "Session not found"))
        if "id" not in message or "method" not in message:
            return self.reply(202)
        return self.reply(200, self.legacy_answer(message))

    def legacy_answer(self, message):
        params = message.get("params", {})
        if message["method"] == "initialize":
            version = "2024-11-05" if self.fixture.era == "sse" else min(params["protocolVersion"], "2025-11-25")
            about = {"name": self.fixture.name, "version": "1"}
            return self.success(message, {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": about})
        result = self.fixture.result(message["method"], params, False)
        return self.success(message, result) if result is not None else self.error(message, -32601, "Method not found")

    def lie(self, message):
        match self.fixture.fault:
            case "lie: not JSON":
                return self.send_bytes(b'{"jsonrpc":"2.0","id":')
            case "lie: another id":
                return self.reply(200, self.success({"id": "somebody-else"}, {"content": []}))
            case "lie: huge answer":
                return self.send_huge()
            case "lie: endless stream":
                self.begin_events()
                while self.fixture.fault:
                    self.wfile.write(b'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"on"}}\n\n')
                    time.sleep(0.01)
            case "lie: breaks off":
                self.begin_events()
                self.close_connection = True

    def send_huge(self):
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(HUGE))
        self.end_headers()
        for _ in range(HUGE >> 20):
            self.wfile.write(b" " * (1 << 20))

    def begin_events(self):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()

    @staticmethod
    def success(message, result):
        return {"jsonrpc": "2.0", "id": message.get("id"), "result": result}

    @staticmethod
    def error(message, code, text):
        return {"jsonrpc": "2.0", "id": message.get("id"), "error": {"code": code, "message": text}}

    def reply(self, status, message=None, **headers):
        self.send_bytes(json.dumps(message).encode() if message else b"", status, **headers)

    def send_bytes(self, body, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if body:
            self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class BlackHole:
    """A port that accepts and never answers, not even by closing."""

    def __init__(self):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(256)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/mcp"

    def stop(self):
        self.listener.close()
