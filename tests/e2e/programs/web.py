"""HTTPS for the scenarios: a git repository, a Python index and an npm registry with one package each, on a free port that
is written to FOLDER/port."""

import base64
import hashlib
import io
import json
import os
import ssl
import subprocess
import sys
import tarfile
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FOLDER = sys.argv[1]


def wheel() -> bytes:
    files = {
        "stand_in.py": "",
        "stand_in-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: stand-in\nVersion: 1.0\n",
        "stand_in-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "stand_in-1.0.dist-info/RECORD": "",
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return out.getvalue()


def tarball() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, text in {"package.json": '{"name": "stand-in", "version": "1.0.0"}', "index.js": "module.exports = 'installed';"}.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


WHEEL, TARBALL = wheel(), tarball()


def document(base: str) -> dict:
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(TARBALL).digest()).decode()
    version = {"name": "stand-in", "version": "1.0.0", "dist": {"tarball": f"{base}/stand-in/-/stand-in-1.0.0.tgz", "integrity": integrity}}
    return {"name": "stand-in", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, form, *args):
        print(form % args, file=sys.stderr)

    def answer(self, kind: str, body: bytes, status: int = 200, headers=()):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        path = self.path.split("?")[0]
        if path.startswith("/git/"):
            return self.git(b"")
        if path == "/simple/stand-in/":
            return self.answer("text/html", b'<a href="/files/stand_in-1.0-py3-none-any.whl">stand_in-1.0-py3-none-any.whl</a>')
        if path.endswith(".whl"):
            return self.answer("application/octet-stream", WHEEL)
        if path == "/npm/stand-in":
            base = f"https://{self.headers['Host']}/npm"
            return self.answer("application/json", json.dumps(document(base)).encode())
        if path.endswith(".tgz"):
            return self.answer("application/octet-stream", TARBALL)
        if path == "/hello":
            return self.answer("text/plain", b"hello from the server\n")
        return self.answer("text/plain", b"not here\n", 404)

    def do_POST(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        self.git(body)

    def git(self, body: bytes):
        """CGI, as git-http-backend(1) has it."""
        path, _, query = self.path.partition("?")
        environment = os.environ | {
            "GIT_PROJECT_ROOT": FOLDER,
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path.removeprefix("/git"),
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "anybody",
        }
        out = subprocess.run(["git", "http-backend"], input=body, env=environment, stdout=subprocess.PIPE, check=True).stdout
        head, _, rest = out.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(headers.pop("Status", "200").split(" ")[0])
        self.answer(headers.pop("Content-Type", "text/plain"), rest, status, headers.items())


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{FOLDER}/cert.pem", f"{FOLDER}/key.pem")


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def finish_request(self, request, client_address):
        # In the connection's own thread, so that a slow handshake holds nobody up.
        with context.wrap_socket(request, server_side=True) as tls:
            super().finish_request(tls, client_address)


server = Server(("127.0.0.1", 0), Handler)
with open(f"{FOLDER}/port.new", "w") as port:
    port.write(str(server.server_address[1]))
os.rename(f"{FOLDER}/port.new", f"{FOLDER}/port")
server.serve_forever()
