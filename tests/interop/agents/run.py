"""Real agents, offline: a scripted model makes each call a tool that is allowed and one that is not, of an MCP server over HTTPS
that knows nothing of gnomon. Three roads: the server itself under `gnomon exec`, the portal, and Code Mode. Needs root, cgroup v2
and what `package-lock.json` pins.

Called by `cargo xtask interop --agents`.
"""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from mcp_server import McpServer
from model import Model

HERE = pathlib.Path(__file__).resolve().parent
RULES = HERE.parent / "rules"
# What the rule says to whoever is refused.
REFUSAL = "interop: the tool forbidden is not allowed here"
READY_SECONDS = 30
AGENT_SECONDS = 180
# What the portal knows agents by.
TOKEN = "gnomon_" + "interop0" * 5
CODE_MODE = "?codemode=search_and_execute"


def claude(lab, url, tool):
    headers = {"Authorization": f"Bearer {TOKEN}"} if url != lab.url else {}
    config = {"mcpServers": {"lab": {"type": "http", "url": url, "headers": headers}}}
    (lab.home / "mcp.json").write_text(json.dumps(config))
    command = ["claude", "-p", "call the tool", "--mcp-config", str(lab.home / "mcp.json"), "--strict-mcp-config"]
    command += ["--allowedTools", "mcp__lab"]
    environment = {"ANTHROPIC_BASE_URL": f"http://127.0.0.1:{lab.model.port}/{tool}", "ANTHROPIC_API_KEY": "none"}
    return command, environment | {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}


def codex(lab, url, tool):
    folder = lab.home / ".codex"
    folder.mkdir(exist_ok=True)
    (folder / "config.toml").write_text(
        f"""model = "scripted"
model_provider = "lab"
[model_providers.lab]
name = "lab"
base_url = "http://127.0.0.1:{lab.model.port}/{tool}/v1"
wire_api = "responses"
[mcp_servers.lab]
url = "{url}"
{'bearer_token_env_var = "LAB_TOKEN"' if url != lab.url else ""}
"""
    )
    command = ["codex", "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "call the tool"]
    return command, {"LAB_TOKEN": TOKEN}


def gemini(lab, url, tool):
    folder = lab.home / ".gemini"
    folder.mkdir(exist_ok=True)
    security = {"folderTrust": {"enabled": False}, "auth": {"selectedType": "gemini-api-key"}}
    headers = {"Authorization": f"Bearer {TOKEN}"} if url != lab.url else {}
    settings = {"mcpServers": {"lab": {"httpUrl": url, "trust": True, "headers": headers}}, "security": security}
    settings |= {"general": {"disableAutoUpdate": True}, "privacy": {"usageStatisticsEnabled": False}, "telemetry": {"enabled": False}}
    (folder / "settings.json").write_text(json.dumps(settings))
    environment = {"GEMINI_API_KEY": "none", "GOOGLE_GEMINI_BASE_URL": f"http://127.0.0.1:{lab.model.port}/{tool}"}
    return ["gemini", "--yolo", "-m", "gemini-2.5-flash", "-p", "call the tool"], environment


# How an agent is called, and what the file of its process may be called.
AGENTS = {"claude": (claude, ("claude",)), "codex": (codex, ("codex",)), "gemini": (gemini, ("node",))}


# By which road, and which tool is wanted.
RUNS = (("exec", "allowed"), ("exec", "forbidden"), ("portal", "allowed"), ("portal", "forbidden"), ("codemode", "allowed"))


class Lab:
    """Servers, and a gnomon whose sensor looks at a cgroup of its own. Whatever was started or made is gone at the end."""

    def __init__(self, gnomon, node_dir):
        self.gnomon, self.node_dir = gnomon, node_dir
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="gnomon-agents-"))
        self.dir.chmod(0o755)
        self.home = self.dir / "home"
        self.home.mkdir()
        mounts = [line.split() for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
        root = next((mount[1] for mount in mounts if mount[2] == "cgroup2"), None) or sys.exit("no cgroup2 hierarchy is mounted")
        self.cgroup = pathlib.Path(root) / f"gnomon-agents-{os.getpid()}"
        self.run_dir = pathlib.Path(f"/run/gnomon-agents-{os.getpid()}")
        self.process = None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self):
        self.make_certificates()
        self.cgroup.mkdir()
        self.model, self.mcp = Model(), McpServer(self.dir / "server.pem", self.dir / "server.key")
        self.url = f"https://localhost:{self.mcp.port}/mcp"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.portal = f"http://127.0.0.1:{port}/mcp"
        token = {"name": "interop-agent", "sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}
        portal = {"id": "main", "listen": f"127.0.0.1:{port}", "servers": ["lab"], "auth": {"mode": "tokens", "tokens": [token]}}
        portal["policy"] = [{"allow": {"servers": ["lab"], "tools": ["allowed"], "users": ["interop-agent"]}}]
        config = {"servers": [{"id": "lab", "url": self.url}], "portals": [portal]}
        (self.dir / "gnomon.yml").write_text(json.dumps(config))
        command = [self.gnomon, "run", "--state-dir", self.dir / "state", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]
        command += ["--sensor", self.cgroup, "--exec-socket", self.socket, "--rules", RULES, "--upstream-ca", self.dir / "ca.pem", "--config", self.dir / "gnomon.yml"]
        self.log = (self.dir / "gnomon.log").open("wb")
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + READY_SECONDS
        while self.under("true").returncode != 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"gnomon did not come up:\n{self.said()}")
            time.sleep(0.2)

    def __exit__(self, *_):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for _ in range(100):
            if not self.cgroup.exists():
                break
            try:
                for folder, _, _ in os.walk(self.cgroup, topdown=False):
                    os.rmdir(folder)
            except OSError:
                time.sleep(0.05)
        shutil.rmtree(self.dir, ignore_errors=True)
        shutil.rmtree(self.run_dir, ignore_errors=True)

    @property
    def socket(self):
        return self.run_dir / "exec.sock"

    def said(self):
        return (self.dir / "gnomon.log").read_text(errors="replace")[-3000:]

    def make_certificates(self):
        """An authority that only gnomon trusts, so that an agent that went past gnomon would fail."""
        name = "subjectAltName=DNS:localhost"
        for arguments in (
            ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=agents lab"],
            ["req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost", "-addext", name],
            ["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2", "-copy_extensions", "copy", "-out", "server.pem"],
        ):
            subprocess.run(["openssl", *arguments], cwd=self.dir, check=True, capture_output=True)

    def under(self, *command, environment=None):
        """Runs a program whose connections go through gnomon, which it does not know."""
        return self.beside(self.gnomon, "exec", "--exec-socket", self.socket, "--", *command, environment=environment)

    def beside(self, *command, environment=None):
        """Runs a program that the sensor sees, and nothing else happens to."""
        whole = ["sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', self.cgroup, *command]
        path = f"{self.node_dir / 'node_modules/.bin'}:{os.environ['PATH']}"
        base = {"PATH": path, "HOME": str(self.home), "LANG": "C.UTF-8", "TERM": "dumb", "CI": "true"}
        return subprocess.run(
            [str(part) for part in whole],
            env=base | (environment or {}),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=AGENT_SECONDS,
        )

    def events(self):
        command = [self.gnomon, "events", "--json", "--state-dir", self.dir / "state"]
        done = subprocess.run([str(part) for part in command], capture_output=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]


def check(lab, agent, road, tool):
    """One agent by one road, one tool. Returns what is wrong, a line each."""
    arrange, files = AGENTS[agent]
    url = {"exec": lab.url, "portal": lab.portal, "codemode": lab.portal + CODE_MODE}[road]
    command, environment = arrange(lab, url, "search-and-execute" if road == "codemode" else tool)
    before, ran, asked = len(lab.events()), len(lab.mcp.ran), len(lab.model.asked)
    done = (lab.under if road == "exec" else lab.beside)(*command, environment=environment)
    heard = "\n".join(body for _, body in lab.model.asked[asked:])
    wrong = []

    def expect(what, holds, detail=""):
        if not holds:
            wrong.append(f"{what} {detail}".rstrip())

    if road != "exec" and tool == "forbidden":
        # Policy hides it, so there is nothing that the model could call.
        expect("it ends with 0", done.returncode == 0, f"but with {done.returncode}")
        expect("what is allowed is offered", "lab_allowed" in heard)
        expect("what is not is not", "lab_forbidden" not in heard)
        expect("the server was not asked", lab.mcp.ran[ran:] == [], f"but ran {lab.mcp.ran[ran:]}")
        return told(agent, road, tool, {}, wrong)
    expect("it ends with 0", done.returncode == 0, f"but with {done.returncode}: {(done.stdout + done.stderr).decode(errors='replace')[-1500:]}")
    deadline, event = time.monotonic() + 10, None
    while event is None and time.monotonic() < deadline:
        calls = [seen for seen in lab.events()[before:] if seen.get("mcp.method.name") == "tools/call"]
        event = next((seen for seen in calls if seen.get("gen_ai.tool.name") == tool), None)
        time.sleep(0.1)
    expect("the call has an event", event is not None, f"the model was asked {len(lab.model.asked) - asked} times\n{lab.said()}")
    event = event or {}
    file = str(event.get("process.executable.path", "")).rsplit("/", 1)[-1]
    expect("the event names the agent's process", file.startswith(files), f"but {file!r}")
    user = "root" if road == "exec" else "interop-agent"
    expect("the event names the user", event.get("user.name") == user, f"but {event.get('user.name')!r}")
    if road == "codemode":
        expect("the event names the execution", "gnomon.execution.id" in event)
        expect("the search found the tool", "lab_allowed" in heard)
        expect("no definitions but two were shown", "Does what is allowed" not in heard)
    expect("whose it is the kernel said", event.get("gnomon.correlation") == "owner", f"but {event.get('gnomon.correlation')!r}")
    if tool == "forbidden":
        expect("it was blocked", event.get("gnomon.action") == "block", f"but {event.get('gnomon.action')!r}")
        expect("the server was not asked", lab.mcp.ran[ran:] == [], f"but ran {lab.mcp.ran[ran:]}")
        expect("the rule's text reached the model", REFUSAL in heard)
    else:
        expect("the server ran it", lab.mcp.ran[ran:] == [tool], f"but ran {lab.mcp.ran[ran:]}")
        expect("the result reached the model", f"the server ran {tool}" in heard)
    return told(agent, road, tool, event, wrong)


def told(agent, road, tool, event, wrong):
    shown = {name: event.get(name) for name in ("process.executable.path", "user.name", "gnomon.correlation", "gnomon.action")}
    shown |= {name: event.get(name) for name in ("mcp.client.name", "network.protocol.version", "tls.client.ja4")}
    shown = {name: value for name, value in shown.items() if value is not None}
    print(f"{'ok  ' if not wrong else 'FAIL'} {agent} by {road}: {tool} {json.dumps(shown)}", flush=True)
    for line in wrong:
        print(f"     {line}", flush=True)
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gnomon", type=pathlib.Path, required=True)
    parser.add_argument("--node", type=pathlib.Path, required=True, help="where the agents are installed")
    parser.add_argument("--only", help="only agents whose name contains this")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("needs root: the sensor attaches programs to a cgroup")
    names = [name for name in AGENTS if not arguments.only or arguments.only in name]
    failures = []
    with Lab(arguments.gnomon.resolve(), arguments.node.resolve()) as lab:
        for agent in names:
            for road, tool in RUNS:
                try:
                    failures += check(lab, agent, road, tool)
                except subprocess.TimeoutExpired:
                    failures.append(f"{agent}: not done within {AGENT_SECONDS} s")
                    print(f"FAIL {failures[-1]}\n{lab.said()}", flush=True)
    sys.exit(1 if failures or not names else 0)


main()
