"""MCP through the proxy: allowed calls unchanged, each with its event; blocked calls answered by us."""

import dataclasses
import json
import sys

from .lab import HERE
from .results import expect_equal

BLOCK_TEXT = "interop: the tool forbidden is not allowed here"
RULE_ID = "3c9f2f5e-5f43-4b51-8a65-3f1c4b0a9d21"
MODERN = "2026-07-28"
EXPECTED = {"allowed": "Echo: grüße", "after": "Echo: again"}
# Present in every tools/call event, whatever its value.
ALWAYS = ("@timestamp", "event.id", "gnomon.schema", "jsonrpc.request.id", "mcp.protocol.version", "source.port", "gnomon.duration_ms")


@dataclasses.dataclass
class Client:
    name: str
    server: str
    command: list
    era: str
    http: str
    states: str
    """The name it gives itself."""
    environment: dict = dataclasses.field(default_factory=dict)


def clients(lab):
    python, node = [sys.executable, HERE / "python/mcp_client.py"], lab.node_dir
    py_server, node_server = lab.url("mcp-python", "/mcp"), lab.url("mcp-node", "/mcp")
    h2 = {"INTEROP_H2": "1"}
    return [
        Client("python-legacy-h1", "mcp-python", [*python, py_server, "legacy", "h1"], "legacy", "1.1", "interop-python"),
        Client("python-modern-h1", "mcp-python", [*python, py_server, MODERN, "h1"], MODERN, "1.1", "interop-python"),
        Client("python-modern-h2", "mcp-node", [*python, node_server, MODERN, "h2"], MODERN, "2", "interop-python"),
        Client("node-v1-h1", "mcp-python", ["node", node / "v1_client.mjs", py_server], "legacy", "1.1", "interop-v1"),
        Client("node-v1-h2", "mcp-node", ["node", node / "v1_client.mjs", node_server], "legacy", "2", "interop-v1", h2),
        Client("node-v2-legacy-h1", "mcp-python", ["node", node / "v2_client.mjs", py_server, "legacy"], "legacy", "1.1", "interop-v2"),
        Client("node-v2-modern-h1", "mcp-node", ["node", node / "v2_client.mjs", node_server, MODERN], MODERN, "1.1", "interop-v2"),
    ]


def run_all(lab, results):
    for client in clients(lab):
        if results.wanted(client.name):
            _run_client(lab, results, client)
    for http, server in (("1.1", "mcp-python"), ("2", "mcp-node")):
        name = f"curl-h{http[0]}"
        if results.wanted(name):
            _run_curl(lab, results, name, http, server)


def _run_client(lab, results, client):
    offset, ran_before = fence(lab), lab.forbidden_runs()
    seen = {}
    with results.check(f"{client.name}: connects and lists the tools"):
        out = lab.run(client.command, env=lab.client_environment(**client.environment))
        seen = json.loads(out)
        expect_equal("the list of tools", seen["tools"], ["echo", "forbidden"])
    if not seen:
        return
    for key, title in (("allowed", "an allowed call answers unchanged"), ("after", "the session works on after the forbidden call")):
        with results.check(f"{client.name}: {title}"):
            expect_equal("the result", seen[key], {"text": EXPECTED[key], "isError": False})
    _check_forbidden(lab, results, client.name, seen["forbidden"], lab.forbidden_runs() - ran_before)
    if not lab.proxied:
        return
    _check_call_event(lab, results, client.name, offset, client.server, client.http)
    _check_block_event(lab, results, client.name, offset)
    first = ("initialize", "initialize names the client") if client.era == "legacy" else ("tools/call", "a call names the client")
    with results.check(f"{client.name}: the event of {first[1]}"):
        event = lab.await_event(offset, mcp__method__name=first[0])
        expect_equal("mcp.client.name", event.get("mcp.client.name"), client.states)
        if client.era != "legacy":
            expect_equal("mcp.protocol.version", event.get("mcp.protocol.version"), client.era)


def _check_forbidden(lab, results, name, answer, runs):
    if not lab.proxied:
        with results.check(f"{name}: the forbidden tool runs without a proxy"):
            expect_equal("the result", answer, {"text": "forbidden ran", "isError": False})
            expect_equal("the number of runs", runs, 1)
        return
    with results.check(f"{name}: a blocked call shows our text"):
        assert BLOCK_TEXT in answer.get("text", ""), f"the client saw {answer}"
        expect_equal("isError", answer["isError"], True)
    with results.check(f"{name}: a blocked call never reaches the server"):
        expect_equal("the number of runs", runs, 0)


def _check_call_event(lab, results, name, offset, server, http):
    with results.check(f"{name}: the event of an allowed call has every field"):
        event = lab.await_event(offset, mcp__method__name="tools/call", gen_ai__tool__name="echo")
        wanted = {
            "server.address": "localhost",
            "server.port": lab.ports[server],
            "url.path": "/mcp",
            "http.request.method": "POST",
            "http.response.status_code": 200,
            "network.protocol.version": http,
            "network.transport": "tcp",
            "tls.client.server_name": "localhost",
            "source.address": "127.0.0.1",
            "gnomon.channel": "https",
            "gnomon.detection.class": "mcp",
            "gnomon.confidence": "confirmed",
        }
        # A client that offers no ALPN speaks HTTP/1.1 without having negotiated it.
        if http == "2":
            wanted["tls.next_protocol"] = "h2"
        wrong = [f"{field} is {event.get(field)!r}, not {value!r}" for field, value in wanted.items() if event.get(field) != value]
        wrong += [f"{field} is missing" for field in ALWAYS if event.get(field) is None]
        if event.get("gnomon.action") not in ("allow", "log"):
            wrong.append(f"gnomon.action is {event.get('gnomon.action')!r}")
        assert not wrong, "; ".join(wrong)


def _check_block_event(lab, results, name, offset):
    with results.check(f"{name}: the event of a blocked call names the rule"):
        event = lab.await_event(offset, mcp__method__name="tools/call", gen_ai__tool__name="forbidden")
        for field, value in (("gnomon.action", "block"), ("rule.id", RULE_ID), ("rule.level", "high")):
            expect_equal(field, event.get(field), value)
        expect_equal("http.response.status_code", event.get("http.response.status_code"), None)


class _Curl:
    """A session of raw JSON-RPC: initialize, then calls, as the 2025-06-18 revision wants them."""

    def __init__(self, lab, http, server):
        self.lab, self.flag, self.url = lab, f"--http{http}", lab.url(server, "/mcp")
        self.session = []

    def post(self, message):
        """The answer's headers, its status and its body."""
        command = ["curl", "-sS", self.flag, "-D", "-", "--suppress-connect-headers", "--max-time", 30, self.url]
        headers = ["content-type: application/json", "accept: application/json, text/event-stream", *self.session]
        for header in headers:
            command += ["-H", header]
        raw = self.lab.run([*command, "--data-binary", json.dumps(message)])
        head, _, body = raw.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        return fields, lines[0].split(" ")[1], body

    def initialize(self):
        params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "interop-curl", "version": "7"}}
        fields, status, _ = self.post({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
        expect_equal("the status of initialize", status, "200")
        self.session = ["mcp-protocol-version: 2025-06-18"]
        if "mcp-session-id" in fields:
            self.session.append(f"mcp-session-id: {fields['mcp-session-id']}")
        _, status, _ = self.post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        expect_equal("the status of notifications/initialized", status, "202")

    def call(self, request_id, tool, arguments):
        params = {"name": tool, "arguments": arguments}
        fields, status, body = self.post({"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params})
        expect_equal("the HTTP status", status, "200")
        if fields.get("content-type", "").startswith("text/event-stream"):
            data = [line[5:] for line in body.decode().splitlines() if line.startswith("data:") and line[5:].strip()]
            body = data[-1]
        answer = json.loads(body)
        expect_equal("the id of the answer", answer.get("id"), request_id)
        result = answer["result"]
        return {"text": "".join(part["text"] for part in result["content"]), "isError": result.get("isError", False)}


def fence(lab):
    """The offset in the events file after everything that happened so far.

    Events are written in order, shortly after the client has its answer. So one more request is
    made that is part of no check: once its event is there, those of earlier requests are too.
    """
    offset = lab.events_size()
    if lab.proxied:
        request_id = f"fence-{offset}"
        _Curl(lab, "1.1", "mcp-node").post({"jsonrpc": "2.0", "id": request_id, "method": "tools/list"})
        lab.await_event(offset, jsonrpc__request__id=request_id)
    return lab.events_size()


def _run_curl(lab, results, name, http, server):
    offset, ran_before = fence(lab), lab.forbidden_runs()
    curl = _Curl(lab, http, server)
    connected = False
    with results.check(f"{name}: initializes"):
        curl.initialize()
        connected = True
    if not connected:
        return
    with results.check(f"{name}: an allowed call answers unchanged"):
        expect_equal("the result", curl.call("allowed-1", "echo", {"message": "grüße"}), {"text": EXPECTED["allowed"], "isError": False})
    forbidden = {}
    with results.check(f"{name}: a forbidden call is answered with its own id"):
        forbidden = curl.call(7, "forbidden", {})
    _check_forbidden(lab, results, name, forbidden, lab.forbidden_runs() - ran_before)
    with results.check(f"{name}: the session works on after the forbidden call"):
        expect_equal("the result", curl.call("after", "echo", {"message": "again"}), {"text": EXPECTED["after"], "isError": False})
    if not lab.proxied:
        return
    _check_call_event(lab, results, name, offset, server, http)
    _check_block_event(lab, results, name, offset)
    with results.check(f"{name}: the event carries the id as sent and the user agent"):
        event = lab.await_event(offset, gen_ai__tool__name="echo", jsonrpc__request__id="allowed-1")
        assert event.get("user_agent.original", "").startswith("curl/"), f"user_agent.original is {event.get('user_agent.original')!r}"
    with results.check(f"{name}: the event of initialize names the client"):
        event = lab.await_event(offset, mcp__method__name="initialize")
        expect_equal("mcp.client.name", event.get("mcp.client.name"), "interop-curl")
        expect_equal("mcp.protocol.version", event.get("mcp.protocol.version"), "2025-06-18")
