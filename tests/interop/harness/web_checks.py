"""Everything that is not MCP must come through unharmed: pages, large bodies, streams, WebSocket, git."""

import hashlib
import json
import os
import subprocess
import sys
import time

from .lab import HERE
from .mcp_checks import fence
from .results import expect_equal

MIB = 1 << 20
LARGE = 64 * MIB
BLOCK = 64 << 10
# The server spreads its events over 1.25 s; an answer held to its end shows its first one then.
FIRST_EVENT_SECONDS = 0.8


def run_all(lab, results):
    offset = fence(lab)
    for http in ("1.1", "2"):
        tag = f"h{http[0]}"
        if results.wanted(f"page-{tag}"):
            _page(lab, results, http, f"page-{tag}")
        if results.wanted(f"large-{tag}"):
            _large(lab, results, http, f"large-{tag}")
        if results.wanted(f"sse-{tag}"):
            _sse(lab, results, http, f"sse-{tag}")
    if results.wanted("websocket"):
        with results.check("websocket: text and 1 MiB of bytes are echoed"):
            url = lab.url("ws", "/").replace("https", "wss")
            expect_equal("the client's word", lab.run([sys.executable, HERE / "python/ws_client.py", url]), b"echoed\n")
    if results.wanted("git"):
        _git(lab, results)
    if lab.proxied:
        with results.check("web: nothing of this was taken for MCP"):
            fence(lab)
            ports = (lab.ports["web"], lab.ports["ws"])
            wrong = [event for event in lab.events_from(offset) if event.get("server.port") in ports and event.get("mcp.method.name")]
            assert not wrong, f"{len(wrong)} events, the first: {wrong[0] if wrong else None}"


def _curl(http, *arguments):
    return ["curl", "-sS", f"--http{http}", "--max-time", "60", *arguments]


def _page(lab, results, http, name):
    with results.check(f"{name}: status, headers, body and HTTP version"):
        out = lab.run(_curl(http, "-D", "-", "--suppress-connect-headers", "-w", "%{http_version}", lab.url("web", "/page")))
        head, _, body = out.partition(b"\r\n\r\n")
        expect_equal("the body and HTTP version", body.decode(), f"<h1>grüße</h1>\n{http}")
        lines = head.decode().lower().split("\r\n")
        assert " 200" in lines[0] and "x-interop: kept" in lines, f"the head is {lines}"
    with results.check(f"{name}: a missing page stays missing"):
        out = lab.run(_curl(http, "-o", os.devnull, "-w", "%{http_code}", lab.url("web", "/nowhere")))
        expect_equal("the status", out, b"404")
    if lab.proxied:
        with results.check(f"{name}: the server sees the request as without a proxy"):
            command = _curl(http, "-H", "X-Interop: a, b", "-H", "Cookie: c=1; d=2", lab.url("web", "/request?q=%2F%20x&&y"))
            through, without = lab.run(command), lab.run(command, env=lab.direct_environment())
            expect_equal("the head", json.loads(through), json.loads(without))


def _down_hash():
    digest = hashlib.sha256()
    for sent in range(0, LARGE, BLOCK):
        digest.update(sent.to_bytes(4, "big") + bytes([(sent >> 16) & 255]) * (BLOCK - 4))
    return digest.hexdigest()


def _large(lab, results, http, name):
    with results.check(f"{name}: 64 MiB down, the same bytes"):
        file = lab.dir / "down.bin"
        lab.run(_curl(http, "-o", file, lab.url("web", "/down")))
        with file.open("rb") as got:
            expect_equal("the hash", hashlib.file_digest(got, "sha256").hexdigest(), _down_hash())
        file.unlink()
    with results.check(f"{name}: 64 MiB up, the same bytes"):
        file = lab.dir / "up.bin"
        digest = hashlib.sha256()
        with file.open("wb") as out:
            for _ in range(LARGE // MIB):
                block = os.urandom(MIB)
                digest.update(block)
                out.write(block)
        got = lab.run(_curl(http, "-T", file, "-X", "POST", lab.url("web", "/up")))
        expect_equal("the hash", got.decode(), digest.hexdigest())
        file.unlink()


def _sse(lab, results, http, name):
    with results.check(f"{name}: each event is passed on when it is sent"):
        start = time.monotonic()
        client = subprocess.Popen(
            _curl(http, "-N", lab.url("web", "/events")), stdout=subprocess.PIPE, env=lab.client_environment(), cwd=lab.dir
        )
        arrivals, data = [], []
        with client:
            for line in client.stdout:
                if line.startswith(b"data: "):
                    arrivals.append(time.monotonic() - start)
                    data.append(int(line[6:]))
        expect_equal("the events", data, [0, 1, 2, 3, 4])
        assert arrivals[0] < FIRST_EVENT_SECONDS, f"the first event came after {arrivals[0]:.2f} s"


def _git(lab, results):
    git = ["git", "-c", "user.name=interop", "-c", "user.email=interop@localhost"]
    origin, work, clone = lab.dir / "git/project.git", lab.dir / "work", lab.dir / "clone"
    with results.check("git: a clone over HTTPS has the same commit and passes fsck"):
        lab.run(["git", "init", "-q", "--bare", "-b", "main", origin])
        lab.run(["git", "init", "-q", "-b", "main", work])
        (work / "blob").write_bytes(os.urandom(3 * MIB))
        (work / "note.json").write_text('{"jsonrpc":"2.0","id":1,"method":"tools/call"}')
        lab.run([*git, "-C", work, "add", "."])
        lab.run([*git, "-C", work, "commit", "-q", "-m", "Add files"])
        lab.run(["git", "-C", work, "push", "-q", origin, "main"])
        lab.run(["git", "clone", "-q", lab.url("web", "/git/project.git"), clone])
        head = ["rev-parse", "HEAD"]
        expect_equal("HEAD", lab.run(["git", "-C", clone, *head]), lab.run(["git", "-C", work, *head]))
        lab.run(["git", "-C", clone, "fsck", "--strict"])
