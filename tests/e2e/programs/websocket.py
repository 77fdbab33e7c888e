"""WebSocket by hand (RFC 6455), to have it where no library is: a server that acts, and a client that has it act.

websocket.py serve FOLDER: without TLS and with it, on free ports that are written to FOLDER/ports. Each text it is sent is a line in
FOLDER/things and is answered with its number; bytes come back as they are.
websocket.py ask URL: greets, has three things kept, sends much, waits for what is said late, and prints what was answered.
"""

import base64
import hashlib
import os
import socket
import ssl
import struct
import sys
import threading
import time
from urllib.parse import urlsplit

TEXT, BYTES, CLOSE, PING, PONG = 1, 2, 8, 9, 10
# More than any buffer on the way holds.
MUCH = bytes(range(256)) * 12_000


def accept_of(key: str) -> str:
    return base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()


def masked(mask: bytes, data: bytes) -> bytes:
    size = len(data)
    whole = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(whole, "big")).to_bytes(size, "big")


class Frames:
    """One side of a connection. A client masks what it sends."""

    def __init__(self, stream, is_client: bool):
        self.stream, self.is_client = stream, is_client
        self.file = stream.makefile("rb")

    def head(self) -> dict:
        """The first line, under its own name, and the headers."""
        found = {"first": self.file.readline().decode().strip()}
        while line := self.file.readline().decode().strip():
            name, _, value = line.partition(":")
            found[name.lower()] = value.strip()
        return found

    def exactly(self, size: int) -> bytes:
        data = self.file.read(size)
        assert len(data) == size, "the other side ended the connection within a frame"
        return data

    def frame(self) -> tuple[int, bytes, bool]:
        first, second = self.exactly(2)
        size = second & 127
        if size == 126:
            (size,) = struct.unpack(">H", self.exactly(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self.exactly(8))
        assert bool(second & 128) != self.is_client, "only a client masks what it says"
        mask = self.exactly(4) if second & 128 else None
        data = self.exactly(size)
        return first & 15, masked(mask, data) if mask else data, bool(first & 128)

    def message(self) -> tuple[int, bytes]:
        """The next that is whole; pings are answered on the way."""
        kind, parts = None, []
        while True:
            code, data, is_last = self.frame()
            if code == PING:
                self.send(PONG, data)
            elif code in (PONG, CLOSE):
                return code, data
            else:
                kind = code or kind
                parts.append(data)
                if is_last:
                    return kind, b"".join(parts)

    def send(self, kind: int, data: bytes, last: bool = True):
        head, size, mask = bytes([kind | (128 if last else 0)]), len(data), 128 if self.is_client else 0
        if size < 126:
            head += bytes([size | mask])
        elif size < 1 << 16:
            head += struct.pack(">BH", 126 | mask, size)
        else:
            head += struct.pack(">BQ", 127 | mask, size)
        if mask:
            key = os.urandom(4)
            head, data = head + key, masked(key, data)
        self.stream.sendall(head + data)


class Server:
    def __init__(self, folder: str):
        self.folder, self.lock, self.count = folder, threading.Lock(), 0

    def keep(self, text: str) -> int:
        with self.lock, open(f"{self.folder}/things", "a") as things:
            things.write(f"{text}\n")
            self.count += 1
            return self.count

    def talk(self, stream):
        frames = Frames(stream, is_client=False)
        head = frames.head()
        assert head["upgrade"].lower() == "websocket" and head["sec-websocket-version"] == "13", head
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        lines.append(f"Sec-WebSocket-Accept: {accept_of(head['sec-websocket-key'])}")
        # The greeting, which nobody asked for, comes together with the answer's head.
        stream.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + b"\x81\x05hello")
        while True:
            kind, data = frames.message()
            if kind == CLOSE:
                frames.send(CLOSE, data)
                return
            if kind == BYTES:
                # In two frames, with a ping between them.
                frames.send(BYTES, data[:1000], last=False)
                frames.send(PING, b"there?")
                frames.send(0, data[1000:])
            elif data == b"later":
                time.sleep(1)
                frames.send(TEXT, b"late")
            elif kind == TEXT:
                frames.send(TEXT, f"{self.keep(data.decode())}".encode())

    def listen(self, context) -> int:
        listener = socket.create_server(("127.0.0.1", 0))

        def one(stream):
            with stream, context.wrap_socket(stream, server_side=True) if context else stream as inner:
                self.talk(inner)

        def all_of_them():
            while True:
                threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=all_of_them, daemon=True).start()
        return listener.getsockname()[1]


def serve(folder: str):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
    server = Server(folder)
    with open(f"{folder}/ports.new", "w") as ports:
        ports.write(f"{server.listen(None)} {server.listen(context)}\n")
    os.rename(f"{folder}/ports.new", f"{folder}/ports")
    threading.Event().wait()


def ask(url: str):
    to = urlsplit(url)
    stream = socket.create_connection((to.hostname, to.port), 30)
    if to.scheme == "wss":
        stream = ssl.create_default_context().wrap_socket(stream, server_hostname=to.hostname)
    frames, key = Frames(stream, is_client=True), base64.b64encode(os.urandom(16)).decode()
    lines = [f"GET {to.path} HTTP/1.1", f"Host: {to.netloc}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
    stream.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    head = frames.head()
    assert head["first"].split()[1] == "101" and head["sec-websocket-accept"] == accept_of(key), head
    said = [frames.message()[1].decode()]
    for thing in ("first", "grüße", "x" * 70_000):
        frames.send(TEXT, thing.encode())
        said.append(frames.message()[1].decode())
    frames.send(BYTES, MUCH)
    kind, data = frames.message()
    said.append("the same" if (kind, data) == (BYTES, MUCH) else f"{kind} {len(data)}")
    frames.send(PING, b"?")
    said.append({(PONG, b"?"): "there"}.get(frames.message(), "no answer to a ping"))
    frames.send(TEXT, b"later")
    said.append(frames.message()[1].decode())
    frames.send(CLOSE, struct.pack(">H", 1000))
    said.append("closed" if frames.message() == (CLOSE, struct.pack(">H", 1000)) and not frames.file.read(1) else "not closed")
    print(*said)


{"serve": serve, "ask": ask}[sys.argv[1]](sys.argv[2])
