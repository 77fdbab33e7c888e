"""The suite's scenarios of extensions, which `--suite all` leaves out: what passes directly passes through a portal with two servers.

Such a portal has a name of its own for each tool, and the scenarios call tools by fixed ones. So between the suite and the portal stands what
a client's author would write: `Renamed`, which calls each tool by the name that the portal lists it by. Everything else passes it as it is.
"""

import contextlib
import http.client
import http.server
import json
import threading
import urllib.parse

import conformance
import lab

SUITE = "2026-07-28"
# Each scenario, with the reason where it says nothing or fails directly.
SCENARIOS = {
    "tasks-lifecycle": None,
    "tasks-capability-negotiation": None,
    "tasks-wire-fields": None,
    "tasks-request-state-removal": None,
    "tasks-mrtr-input": None,
    "tasks-request-headers": None,
    "tasks-dispatch-and-envelope": None,
    "tasks-status-notifications": "the suite checks nothing yet: it is to be rewritten for subscriptions/listen",
    "tasks-required-task-error": None,
    "tasks-mrtr-composition": None,
    "sep-2640-skills-enumeration": None,
    "sep-2640-skills-manifest": None,
    "sep-2640-skills-directory": None,
}
# Through the portal some warn: the suite takes two servers for one. Names of skills may be twice in the list of a portal (SEP-2640: SHOULD).
WARNED = {"sep-2640-names-should-be-unique"}
HOPS = {"connection", "content-length", "host", "transfer-encoding", "keep-alive"}


class Renamed(http.server.BaseHTTPRequestHandler):
    """Calls the tools of one server by the names that the portal lists."""

    protocol_version = "HTTP/1.1"
    upstream = None
    prefix = ""

    def do_POST(self):  # noqa: N802
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOPS}
        message = json.loads(body)
        if message.get("method") == "tools/call":
            own = message["params"]["name"]
            message["params"]["name"] = self.prefix + own
            for name in headers:
                # A header that says something else is the scenario's own test.
                if name.lower() == "mcp-name" and headers[name].strip() == own:
                    headers[name] = self.prefix + own
            body = json.dumps(message).encode()
        at = urllib.parse.urlsplit(self.upstream)
        connection = http.client.HTTPConnection(at.hostname, at.port, timeout=60)
        try:
            connection.request("POST", at.path, body, headers)
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOPS:
                self.send_header(name, value)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def renamed(url, server):
    """What calls the tools of this server of the portal; the value is its URL."""
    handler = type("Handler", (Renamed,), {"upstream": url, "prefix": f"{server}_"})
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.server_address[1]}/mcp"
    finally:
        listening.shutdown()
        listening.server_close()


def run_all(results, modules, gnomon):
    """Each scenario directly, and through the portal where there is one."""
    wanted = [name for name in SCENARIOS if results.wanted(f"extensions: {name}")]
    if not wanted:
        return
    with lab.fixture(modules, "extended.mjs") as url:
        direct = {name: conformance.run_suite(modules, SUITE, url, name) for name in wanted}
    through = {}
    if gnomon:
        with lab.fixture(modules, "extended.mjs") as one, lab.fixture(modules, "extended.mjs") as two:
            with lab.portal(gnomon, {"other": two, "up": one}) as portal, renamed(portal.url, "up") as url:
                through = {name: conformance.run_suite(modules, SUITE, url, name) for name in wanted}
    for name in wanted:
        results.check(f"extensions: {name}", lambda name=name: judge(name, direct[name], through.get(name)))


def judge(name, direct, through):
    reason, counted = SCENARIOS[name], conformance.count(direct)
    if reason:
        assert not counted["SUCCESS"], f"it checks something now: take out the reason ({reason})"
        return f"({reason})"
    failing = [key for key, outcomes in direct.items() if any(status in ("FAILURE", "WARNING") for status, _ in outcomes)]
    assert counted["SUCCESS"] and not failing, f"the fixture itself fails {failing}"
    if through is None:
        return f"directly, {counted['SUCCESS']} checks"
    lost = [(check, said) for _, check, said in conformance.lost(direct, through) if check not in WARNED]
    assert not lost, "lost: " + "; ".join(f"{check}: {' '.join(said)[:300]}" for check, said in lost)
    return f"{conformance.count(through)['SUCCESS']} of {counted['SUCCESS']} checks"
