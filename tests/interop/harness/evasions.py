"""Ways past a blocking rule, each at a server that acts: the trace of its tool says whether the call ran.

Each is first sent to the server itself. Where the tool does not run even then, the way is none at this server: it is printed as left out.
Through the proxy the tool must not run, and an event must tell of it. The calls are written by hand, as no client would write them.
"""

import dataclasses
import json
import socket
import ssl
import time
import typing

import h2.config
import h2.connection
import h2.events

from .mcp_checks import MODERN

PATIENCE = 5
# How long after its end a call may still leave a trace.
LATE = 0.5
META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "forbidden", "arguments": {}}}
JSON_TYPE = {"Content-Type": "application/json"}
MCP_HEADERS = JSON_TYPE | {
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": MODERN,
    "Mcp-Method": "tools/call",
    "Mcp-Name": "forbidden",
}


class Tls(ssl.SSLContext):
    """Verifies nothing and offers what it is told to: whoever goes around a proxy does not ask whose certificate it is."""

    def __new__(cls, *_, **__):
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, alpn=(), sni="localhost"):
        self.check_hostname, self.verify_mode, self.sni = False, ssl.CERT_NONE, sni
        if alpn:
            self.set_alpn_protocols(alpn)

    def _encode_hostname(self, name):
        # Not what the library makes of it, which would be a host name or an error.
        return name


@dataclasses.dataclass
class Way:
    name: str
    server: str
    pieces: list = dataclasses.field(default_factory=list)
    """What is sent, with a pause between the pieces."""
    talk: typing.Callable | None = None
    """A conversation in place of them."""
    tls: Tls | None = None
    tunnel: bool = True
    """Whether the proxy is asked for a tunnel; else it is sent what the server would be."""


def run_all(lab, results):
    tried = acted_on = 0
    for number, group in enumerate(groups(lab)):
        # Each group is another client's: of one, events of what cannot be read are told in sums beyond 64 in ten seconds.
        client = f"127.0.1.{number + 1}"
        ways = [way for way in group if results.wanted(f"evasion: {way.name}")]
        proven = [way for way in ways if _acts_on(lab, results, client, way)]
        tried, acted_on = tried + len(ways), acted_on + len(proven)
        if lab.proxied and proven:
            _are_held(lab, results, client, proven)
    if tried:
        with results.check("evasion: servers act on most of them"):
            assert acted_on * 4 >= tried * 3, f"they act on {acted_on} of {tried}"


def _acts_on(lab, results, client, way):
    """Whether the tool runs where nothing is in the way."""
    before = lab.forbidden_runs()
    _, seen = _go(lab, client, way, proxied=False)
    # A server may act after it has answered.
    end = time.monotonic() + LATE
    while lab.forbidden_runs() == before and time.monotonic() < end:
        time.sleep(0.01)
    if lab.forbidden_runs() == before:
        print(f"left out  evasion: {way.name}: the server itself does not act on it; it said {seen}", flush=True)
        return False
    if not lab.proxied:
        with results.check(f"evasion: {way.name}: the server acts on it"):
            pass
    return True


def _are_held(lab, results, client, ways):
    offset, first = lab.events_size(), lab.forbidden_runs()
    gone = []
    for way in ways:
        before = lab.forbidden_runs()
        source, seen = _go(lab, client, way, proxied=True)
        gone.append((way, source, seen, lab.forbidden_runs() - before))
    for way, source, seen, runs in gone:
        with results.check(f"evasion: {way.name}: the tool does not run, and an event tells of it"):
            assert not runs, f"the tool ran; the client saw {seen}"
            # Without a tunnel, a line that cannot be read is all that says which server is meant.
            server = {"server__port": lab.ports[way.server]} if way.tunnel else {}
            lab.await_event(offset, gnomon__action="block", source__port=source, **server)
    time.sleep(LATE)
    with results.check(f"evasion: of {len(ways)} such calls from {client} none ran late"):
        late = lab.forbidden_runs() - first - sum(runs for *_, runs in gone)
        assert not late, f"{late} ran after their answers"


def _go(lab, client, way, proxied):
    """Goes this way. The client's port, and what the client saw."""
    port = lab.ports[way.server]
    to = ("127.0.0.1", lab.proxy_port if proxied else port)
    with socket.create_connection(to, PATIENCE, source_address=(client, 0)) as stream:
        source = stream.getsockname()[1]
        try:
            if proxied and way.tunnel:
                stream.sendall(f"CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
                head = _head(stream)
                if b" 200 " not in head:
                    return source, f"no tunnel: {head}"
            with way.tls.wrap_socket(stream, server_hostname=way.tls.sni) if way.tls else stream as inner:
                return source, way.talk(inner) if way.talk else _say(inner, way.pieces)
        except OSError as error:
            return source, f"{type(error).__name__}: {error}"


def _head(stream):
    """An answer's head, and nothing of what follows it."""
    head = b""
    while not head.endswith(b"\r\n\r\n") and (byte := stream.recv(1)):
        head += byte
    return head


def _say(stream, pieces):
    """Sends it all and reads to the end. The beginning of the answer."""
    for piece in pieces:
        stream.sendall(piece)
        time.sleep(0.02 if len(pieces) > 1 else 0)
    answer = b""
    try:
        while piece := stream.recv(65536):
            answer += piece
    except OSError as error:
        return f"{answer[:300]}, then {type(error).__name__}"
    return f"{answer[:300]}"


def _request(port, headers, body, line=b"POST /run HTTP/1.1"):
    lines = [line, b"Host: localhost:%d" % port]
    lines += [name.encode("latin-1") + b": " + value.encode("latin-1") for name, value in headers.items()]
    lines += [b"Content-Length: %d" % len(body), b"Connection: close"]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def groups(lab):
    lines = (_odd_lines(lab, "acting", None), _odd_lines(lab, "acting-tls", Tls()), _odd_lines_to_the_proxy(lab))
    return [_at_the_sdk(lab), *lines, _odd_bodies(lab), _odd_heads(lab), _to_http2(lab)]


def _at_the_sdk(lab):
    """The official Python SDK behind uvicorn."""
    server, port = "mcp-python", lab.ports["mcp-python"]
    body = json.dumps(CALL | {"params": CALL["params"] | {"_meta": META}}).encode()

    def way(name, tls=None, **headers):
        headers = {header.replace("_", "-"): value for header, value in headers.items()}
        pieces = [_request(port, MCP_HEADERS | headers, body, b"POST /mcp HTTP/1.1")]
        return Way(f"SDK, {name}", server, pieces, tls=tls or Tls())

    yield way("as a client says it")
    for coding in ("deflate", "gzip", "br", "zstd", "foo", "identity, deflate"):
        yield way(f"Content-Encoding: {coding} on plain JSON", Content_Encoding=coding)
    for alpn in ("x", "h3", "http/1.0"):
        yield way(f"ALPN {alpn}", Tls([alpn]))
    for sni in ("*.b.example", "a..b", "a b", "a" * 255, "a_b.example", "-a.example", "a-.example", "a.1", None):
        yield way(f"SNI {sni[:20] if sni else sni}", Tls(sni=sni))
    # Nearly as many as OpenSSL says; what it says besides makes it more than 64 KiB.
    yield way("a ClientHello of more than 64 KiB", Tls(["x" * 254] * 256 + ["x" * 19]))
    for upgrade in ("h2c", "websocket", "something/1"):
        yield way(f"Upgrade: {upgrade}", Upgrade=upgrade, Connection="Upgrade")


LINES = {
    "HTTP/1.2": b"POST %s HTTP/1.2",
    "HTTP/1.10": b"POST %s HTTP/1.10",
    "HTTP/01.01": b"POST %s HTTP/01.01",
    "a blank behind the version": b"POST %s HTTP/1.1 ",
    "a tab behind the version": b"POST %s HTTP/1.1\t",
    "two blanks": b"POST  %s  HTTP/1.1",
    "a blank before it": b" POST %s HTTP/1.1",
    "tabs": b"POST\t%s\tHTTP/1.1",
    "vertical tabs": b"POST\v%s\vHTTP/1.1",
    "form feeds": b"POST\f%s\fHTTP/1.1",
    "separators of units": b"POST\x1f%s\x1fHTTP/1.1",
    "next lines": b"POST\x85%s\x85HTTP/1.1",
    "no-break spaces": b"POST\xa0%s\xa0HTTP/1.1",
    "post": b"post %s HTTP/1.1",
    "more than 16 KiB": b"POST %s?" + b"x" * 17_000 + b" HTTP/1.1",
    "a path that is not ASCII": b"POST %s\xe4\xf6\xfc HTTP/1.1",
}


def _odd_lines(lab, server, tls):
    """Request lines that http.server reads."""
    body, port = json.dumps(CALL).encode(), lab.ports[server]
    for name, line in LINES.items():
        request = _request(port, JSON_TYPE, body, line.replace(b"%s", b"/run"))
        yield Way(f"{server}, request line with {name}", server, [request], tls=tls)
    request = _request(port, JSON_TYPE, body, "POST /rün HTTP/1.1".encode())
    yield Way(f"{server}, request line in two parts within a letter", server, [request[:8], request[8:]], tls=tls)
    yield Way(f"{server}, request line byte by byte", server, [*(bytes([byte]) for byte in request[:20]), request[20:]], tls=tls)


def _odd_lines_to_the_proxy(lab):
    """The same to the proxy itself, which passes on what asks for a URL."""
    body, port = json.dumps(CALL).encode(), lab.ports["acting"]
    for name, line in LINES.items():
        request = _request(port, JSON_TYPE, body, line.replace(b"%s", b"http://localhost:%d/run" % port))
        yield Way(f"acting, without a tunnel, request line with {name}", "acting", [request], tunnel=False)


def _odd_bodies(lab):
    """Bodies that a forgiving server takes for calls, and calls with odd parameters."""
    body, port = json.dumps(CALL).encode(), lab.ports["acting"]

    def way(name, body, headers):
        return Way(f"acting, {name}", "acting", [_request(port, headers, body)])

    for kind in (None, "text/plain", "application/octet-stream"):
        for coding in (None, "foo", "none", "gzip", "deflate"):
            headers = ({"Content-Type": kind} if kind else {}) | ({"Content-Encoding": coding} if coding else {})
            yield way(f"type {kind}, coding {coding}", body, headers)
    yield way("a type that names UTF-7", body, {"Content-Type": "text/plain; charset=utf-7"})
    before = {
        "//": b"//\n",
        "/* */": b"/* a comment */",
        "#": b"# a comment\n",
        ")]}'": b")]}'\n",
        "a no-break space": b"\xc2\xa0",
        "a vertical tab": b"\v",
        "a record separator": b"\x1e",
        "two byte order marks": b"\xef\xbb\xbf\xef\xbb\xbf",
        "null": b"null\n",
        "a number": b"1\n",
        "a string": b'"x"\n',
        "an array's beginning": b"[",
    }
    for name, prefix in before.items():
        yield way(f"{name} before the call", prefix + body, JSON_TYPE)
    yield way("a comment before the call, of no type", before["//"] + body, {})
    yield way("the name escaped", body.replace(b"forbidden", b"f\\u006frbidden"), JSON_TYPE)
    yield way("the method escaped", body.replace(b"tools/call", b"tools\\/c\\u0061ll"), JSON_TYPE)
    late = json.dumps(CALL | {"params": {"arguments": "x" * 100_000, "name": "forbidden"}})
    yield way("the name behind 100 kB", late.encode(), JSON_TYPE)
    # No name, or none that can be read; `rules/block_unnamed.yml` is for the former.
    for name, params in {"positional": ["forbidden", {}], "a number for a name in": {"name": 7}, "a text for": "forbidden"}.items():
        yield way(f"{name} parameters", json.dumps(CALL | {"params": params}).encode(), JSON_TYPE)
    nothing = {member: value for member, value in CALL.items() if member != "params"}
    yield way("no parameters", json.dumps(nothing).encode(), JSON_TYPE)


def _odd_heads(lab):
    """Two hosts, a host in other letters, two framings."""
    body, port = json.dumps(CALL).encode(), lab.ports["acting"]
    request = _request(port, JSON_TYPE, body)
    for name, header in {
        "two hosts": b"Host: other.example\r\nHost: ",
        "a host that is not ASCII": b"Host: \xe4\xf6\xfc",
        "two framings": b"Transfer-Encoding: chunked\r\nHost: ",
        "two lengths": b"Content-Length: %d\r\nHost: " % len(body),
        "a folded header": b"X-Note: a\r\n b\r\nHost: ",
        "a header without a name": b": x\r\nHost: ",
    }.items():
        yield Way(f"acting, {name}", "acting", [request.replace(b"Host: ", header, 1)])


def _to_http2(lab):
    """From HTTP/1.1 to HTTP/2 without TLS' consent, at a server that is asked for it."""
    for server in ("h2c", "h2c-tls"):
        port = lab.ports[server]
        for upgrade in ("h2c", "H2C"):

            def upgraded(stream, port=port, upgrade=upgrade):
                return _upgraded(stream, port, upgrade)

            yield Way(f"{server}, Upgrade: {upgrade}", server, talk=upgraded, tls=Tls() if server == "h2c-tls" else None)
        yield Way(f"{server}, HTTP/2 from its first byte", server, talk=_prior, tls=Tls() if server == "h2c-tls" else None)


def _h2():
    return h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))


def _upgraded(stream, port, upgrade):
    """Asks for HTTP/2, and calls in it whether or not the server agrees."""
    http2 = _h2()
    settings = http2.initiate_upgrade_connection().decode()
    lines = ["GET / HTTP/1.1", f"Host: localhost:{port}", "Connection: Upgrade, HTTP2-Settings", f"Upgrade: {upgrade}"]
    stream.sendall(("\r\n".join([*lines, f"HTTP2-Settings: {settings}"]) + "\r\n\r\n").encode())
    head = _head(stream)
    return f"{head[:100]}, then {_call_over(stream, http2, 3)}"


def _prior(stream):
    http2 = _h2()
    http2.initiate_connection()
    return _call_over(stream, http2, 1)


def _call_over(stream, http2, stream_id):
    body = json.dumps(CALL).encode()
    head = {":method": "POST", ":path": "/run", ":scheme": "http", ":authority": "localhost", "content-type": "application/json"}
    http2.send_headers(stream_id, list(head.items()))
    http2.send_data(stream_id, body, end_stream=True)
    over = (h2.events.StreamEnded, h2.events.StreamReset, h2.events.ConnectionTerminated)
    seen = []
    try:
        stream.sendall(http2.data_to_send())
        while data := stream.recv(65536):
            if not seen and data.startswith(b"HTTP/1"):
                return f"{data[:200]}"
            events = http2.receive_data(data)
            seen += [type(event).__name__ for event in events]
            # The stream of the request that asked for HTTP/2 ends as well.
            if any(isinstance(event, over) and getattr(event, "stream_id", stream_id) == stream_id for event in events):
                break
            stream.sendall(http2.data_to_send())
    except Exception as error:  # whatever the library makes of bytes that are no HTTP/2
        return f"{seen}, then {type(error).__name__}: {error}"
    return f"{seen}"
