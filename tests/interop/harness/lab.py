"""The processes of a run: servers, the proxy, and the environment clients are given.

Clients trust only the CA of what they are meant to meet: the proxy's own, or without a proxy the
servers'. A client that got round the proxy would therefore fail instead of passing unseen.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

from . import pki

HERE = pathlib.Path(__file__).resolve().parent.parent
READY_SECONDS = 20
CLIENT_SECONDS = 90


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Lab:
    """Use as a context manager: whatever was started is ended."""

    def __init__(self, run_dir, node_dir, gnomon):
        self.dir, self.node_dir, self.gnomon = run_dir, node_dir, gnomon
        self.processes = []
        self.events_path = run_dir / "events.jsonl"
        self.ran = run_dir / "forbidden-ran"
        self.ports = {}
        self.proxy_port = None
        self.upstream_ca = self.trusted_ca = None

    def __enter__(self):
        try:
            self._start_all()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @property
    def proxied(self):
        return self.gnomon is not None

    def _start_all(self):
        ca, cert, key = pki.write(self.dir)
        (self.dir / "home").mkdir()
        tls = [str(cert), str(key)]
        python = [sys.executable]
        self._serve("mcp-python", [*python, HERE / "python/mcp_server.py"], [*tls, self.ran])
        self._serve("mcp-node", ["node", self.node_dir / "mcp_server.mjs"], [*tls, self.ran])
        self._serve("web", ["node", self.node_dir / "web_server.mjs"], [*tls, self.dir / "git"])
        self._serve("ws", [*python, HERE / "python/ws_server.py"], tls)
        for name, program in (("acting", "acting_server.py"), ("h2c", "h2c_server.py")):
            self._serve(name, [*python, HERE / "python" / program], [self.ran])
            self._serve(f"{name}-tls", [*python, HERE / "python" / program], [self.ran, *tls])
        self.upstream_ca = self.trusted_ca = ca
        if self.proxied:
            self.proxy_port = free_port()
            state = self.dir / "gnomon"
            command = [self.gnomon, "proxy", "--state-dir", state, "--listen", f"127.0.0.1:{self.proxy_port}"]
            command += ["--upstream-ca", ca, "--rules", HERE / "rules", "--events", self.events_path]
            command += ["--metrics", f"127.0.0.1:{free_port()}"]
            for port in self.ports.values():
                command += ["--resolve", f"localhost:{port}:127.0.0.1:{port}"]
            self._start("gnomon", command, self.proxy_port)
            self.trusted_ca = state / "ca.pem"

    def _serve(self, name, program, arguments):
        port = self.ports[name] = free_port()
        self._start(name, [*program, port, *arguments], port)

    def _start(self, name, command, port):
        log = self.dir / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._base_environment(),
                cwd=self.dir,
            )
        self.processes.append(process)
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{name} did not come up:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)

    def _base_environment(self):
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.dir / "home"),
            "LANG": "C.UTF-8",
            "NODE_NO_WARNINGS": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
        }

    def client_environment(self, **extra):
        """What a client of the run is told: the CA to trust and, where there is one, the proxy."""
        environment = self._environment_trusting(self.trusted_ca)
        if self.proxied:
            environment["HTTPS_PROXY"] = environment["https_proxy"] = f"http://127.0.0.1:{self.proxy_port}"
        return environment | extra

    def direct_environment(self):
        """What a client needs that is to go past the proxy, for comparison."""
        return self._environment_trusting(self.upstream_ca)

    def _environment_trusting(self, ca):
        names = ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO")
        return self._base_environment() | {name: str(ca) for name in names}

    def url(self, server, path):
        return f"https://localhost:{self.ports[server]}{path}"

    def run(self, command, **options):
        """Runs a client to its end and returns what it printed, as bytes."""
        environment = options.pop("env", None) or self.client_environment()
        command = [str(part) for part in command]
        done = subprocess.run(
            command, env=environment, cwd=self.dir, capture_output=True, timeout=CLIENT_SECONDS, **options
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace")[-500:]
            raise AssertionError(f"{pathlib.Path(command[0]).name} ended with {done.returncode}: {said}")
        return done.stdout

    def forbidden_runs(self):
        return len(self.ran.read_text().splitlines()) if self.ran.exists() else 0

    def events_from(self, offset):
        """All whole events after a byte offset of the events file."""
        if not self.events_path.exists():
            return []
        with self.events_path.open("rb") as file:
            file.seek(offset)
            lines = file.read().split(b"\n")[:-1]
        return [json.loads(line) for line in lines if line]

    def events_size(self):
        return self.events_path.stat().st_size if self.events_path.exists() else 0

    def await_event(self, offset, **wanted):
        """The first event after `offset` whose fields (dots written as __) have these values."""
        fields = {name.replace("__", "."): value for name, value in wanted.items()}
        deadline = time.monotonic() + 5
        while True:
            events = self.events_from(offset)
            for event in events:
                if all(event.get(name) == value for name, value in fields.items()):
                    return event
            if time.monotonic() > deadline:
                methods = [event.get("mcp.method.name") for event in events]
                raise AssertionError(f"no event with {fields}; methods seen: {methods}")
            time.sleep(0.1)
