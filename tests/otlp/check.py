"""A receiver of OTLP logs that decodes with the OpenTelemetry project's own messages, and a gnomon that sends to it.

gnomon is killed with SIGKILL while it sends and while the receiver fails now and then; then it is started again. Every
event that its ledger holds must have arrived, with the fields that the ledger has.
"""

import http.server
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

KILLS = 3
CALLS = 150
DEADLINE = 90


def plain(value):
    kind = value.WhichOneof("value")
    return [plain(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind)


class Quiet(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(Quiet):
    """An MCP server, as far as a call needs one."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}')


class Collector(Quiet):
    """Takes logs; of every ten requests one is refused for now and one is taken without an answer."""

    records = []
    requests = 0
    faults = random.Random(1)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path == "/v1/logs", self.path
        assert self.headers["Authorization"] == "Bearer check", self.headers
        Collector.requests += 1
        fault = self.faults.random()
        if fault < 0.1:
            return self.answer(503)
        for logs in ExportLogsServiceRequest.FromString(body).resource_logs:
            resource = {pair.key: plain(pair.value) for pair in logs.resource.attributes}
            assert resource["service.name"] == "gnomon" and resource["host.name"] == os.uname().nodename, resource
            for record in logs.scope_logs[0].log_records:
                self.records.append(record)
        if fault > 0.9:
            self.close_connection = True
            return None
        return self.answer(200, ExportLogsServiceResponse().SerializeToString(), "application/x-protobuf")


def serve(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


class Gnomon:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.log = open(folder / "log", "ab+")
        self.child = None

    def start(self):
        start = self.log.seek(0, os.SEEK_END)
        self.child = subprocess.Popen(
            [self.program, "proxy", "--config", self.folder / "gnomon.yml", "--state-dir", self.folder / "state"],
            stderr=self.log,
            env={**os.environ, "TOKEN": "Bearer check"},
        )
        for _ in until("gnomon to start"):
            self.log.seek(start)
            words = self.log.read().decode().split()
            if "on" in words and "metrics" in words:
                return words[words.index("on") + 1].rstrip(",")
            assert self.child.poll() is None, (self.folder / "log").read_text()

    def end(self, number):
        self.child.send_signal(number)
        self.child.wait()

    def events(self):
        words = [self.program, "events", "--json", "--limit", "10000", "--state-dir", self.folder / "state"]
        out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        return [json.loads(line) for line in out.splitlines()]


def until(what):
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        yield
        time.sleep(0.05)
    raise TimeoutError(what)


def call(proxy, server, number):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": f"http://{proxy}"}))
    params = {"name": f"tool-{number}", "arguments": {}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    request = urllib.request.Request(
        f"http://127.0.0.1:{server}/mcp",
        json.dumps(message).encode(),
        {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Mcp-Session-Id": "a"},
    )
    opener.open(request, timeout=20).read()


def main(program):
    with tempfile.TemporaryDirectory() as folder:
        gnomon = Gnomon(program, pathlib.Path(folder))
        try:
            run(gnomon)
        finally:
            if gnomon.child and gnomon.child.poll() is None:
                gnomon.end(signal.SIGKILL)


def run(gnomon):
    server, collector = serve(Server), serve(Collector)
    config = {
        "proxy": {"listen": "127.0.0.1:0"},
        "metrics": {"listen": "off"},
        "events": {"otlp": {"endpoint": f"http://127.0.0.1:{collector}", "headers": ["Authorization=env:TOKEN"]}},
    }
    (gnomon.folder / "gnomon.yml").write_text(json.dumps(config))
    for kill in range(KILLS):
        proxy = gnomon.start()
        for number in range(CALLS):
            call(proxy, server, kill * CALLS + number)
        requests = Collector.requests
        for _ in until("the collector to be asked"):
            if Collector.requests > requests:
                break
        gnomon.end(signal.SIGKILL)
    gnomon.start()
    stored = {event["event.id"]: event for event in gnomon.events()}
    for _ in until("all events to arrive"):
        arrived = {}
        for record in list(Collector.records):
            fields = {pair.key: plain(pair.value) for pair in record.attributes}
            arrived[fields["event.id"]] = (record, fields)
        if stored.keys() <= arrived.keys():
            break
    gnomon.end(signal.SIGTERM)
    assert len(stored) >= KILLS * CALLS // 2, len(stored)
    assert arrived.keys() == stored.keys(), "an event arrived that the ledger does not have"
    levels = {"low": 10, "medium": 13, "high": 17, "critical": 21}
    for name, event in stored.items():
        record, fields = arrived[name]
        assert fields == event, (fields, event)
        assert record.severity_number == levels.get(event.get("rule.level"), 9), record
        assert record.event_name == f"gnomon.{event['event.kind']}" and record.body.string_value, record
    doubles = len(Collector.records) - len(arrived)
    print(f"{len(stored)} events arrived with all fields through {KILLS} kills, {doubles} of them doubled")


if __name__ == "__main__":
    main(sys.argv[1])
