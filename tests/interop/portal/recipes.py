"""The recipes of docs/portal-servers.md, typed as they stand there: servers that people run on standard input and output, added by
`gnomon server add` and used through a portal. As root, whose gnomon runs each as a user of its own.
"""

import contextlib
import json
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import tempfile
import time

import lab
import mcp

PINNED = lab.HERE.parent / "recipes"
# The system's, as the servers run as other users than the one who runs this.
PYTHON, NODE = "/usr/bin/python3", shutil.which("node", path="/usr/bin:/usr/local/bin")
# Somebody with a home that nobody else may enter; the account is one that every Debian has.
OWNER = "games"
PATIENCE = 300


class Host:
    """A folder that stands for the host's: configuration, state, servers and what they work on."""

    def __init__(self, gnomon, root):
        self.gnomon, self.root, self.port = gnomon, root, lab.free_port()
        self.config, self.state = root / "etc/gnomon.yml", root / "state"
        for folder in ("etc", "state", "opt", "srv"):
            (root / folder).mkdir()
        self.metrics = f"127.0.0.1:{lab.free_port()}"

    def offers(self, name):
        """A configuration whose portal names a server that is to be added."""
        self.config.write_text(
            f"metrics: {{ listen: '{self.metrics}' }}\nportals:\n  - id: main\n    listen: 127.0.0.1:{self.port}\n"
            f"    servers: [{name}]\n    policy:\n      - allow: {{ servers: [{name}] }}\n"
        )

    def run(self, *command, fails=False, **options):
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=PATIENCE, **options)
        said = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, f"{' '.join(map(str, command))}: exit code {done.returncode}\n{said[-2000:]}"
        return said

    def add(self, name, *flags, fails=False):
        self.offers(name)
        known = {"GNOMON_CONFIG": str(self.config), "GNOMON_STATE_DIR": str(self.state)}
        return self.run(self.gnomon, "server", "add", "--id", name, *flags, fails=fails, env=os.environ | known)

    def lets_write(self, name, *flags):
        """What does not let its user write is told with the command that does; whoever runs that gets on."""
        said = self.add(name, *flags, fails=True)
        advice = re.search(r"`((?:setfacl|chown)[^`]*)`", said)
        assert advice, said
        self.run("sh", "-c", advice[1])
        return self.add(name, *flags)

    def repository(self, name, owner=None):
        at = self.root / "srv" / name if owner is None else owner / name
        at.mkdir()
        git = ["git", "-C", at, "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]
        self.run(*git, "init", "-q")
        self.run(*git, "commit", "-q", "--allow-empty", "-m", "the first of all")
        return at

    @contextlib.contextmanager
    def serves(self):
        command = [self.gnomon, "portal", "--config", self.config, "--state-dir", self.state]
        with lab.process(command, self.port, self.root / "log"):
            client = mcp.Client(f"http://127.0.0.1:{self.port}/mcp", timeout=PATIENCE)
            client.open()
            # A list does not wait for a program that takes its time to start.
            begun = time.monotonic()
            while not client.tools():
                assert time.monotonic() - begun < PATIENCE, (self.root / "log").read_text()[-2000:]
                time.sleep(0.2)
            yield client


def install(host):
    """What the recipes install, at the versions that are pinned."""
    npm = host.root / "opt/mcp"
    npm.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PINNED / name, npm)
    host.run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", cwd=npm)
    return npm / "node_modules/@modelcontextprotocol"


def environment(host, at):
    """A virtual environment with the git server, as the recipe makes it."""
    if not at.exists():
        host.run(PYTHON, "-m", "venv", at)
        host.run(at / "bin/pip", "install", "-q", "--disable-pip-version-check", "-r", PINNED / "requirements.txt")
    return at / "bin/python", at / "bin/mcp-server-git"


def run_all(results, gnomon):
    """All of them at one portal, as they would be used."""
    names = [f"recipes: {what}" for what in ("files", "files, with writes", "memory", "git", "git, with writes", "Python from a home folder")]
    if not any(results.wanted(name) for name in names):
        return
    if os.geteuid() != 0 or NODE is None:
        return results.skip("recipes", "needs root and node in /usr/bin")
    with tempfile.TemporaryDirectory(prefix="gnomon-recipes-", dir="/var/tmp") as folder:
        root = pathlib.Path(folder)
        # Others must pass through it, as through /opt and /srv.
        root.chmod(0o755)
        host = Host(gnomon.resolve(), root)
        packages = install(host)
        for name, check in zip(names, (files, written, memory, git, branches, home)):
            results.check(name, lambda check=check: check(host, packages))


def files(host, packages):
    shared = host.root / "srv/shared"
    shared.mkdir()
    (shared / "note.txt").write_text("as it stands")
    server = packages / "server-filesystem/dist/index.js"
    host.add("files", "--read", shared, "--command", NODE, server, shared)
    with host.serves() as client:
        assert "as it stands" in client.call("files_read_text_file", path=str(shared / "note.txt"))
        refused(client, "files_write_file", path=str(shared / "other.txt"), content="not allowed")
    assert not (shared / "other.txt").exists()


def written(host, packages):
    shared = host.root / "srv/written"
    shared.mkdir()
    server = packages / "server-filesystem/dist/index.js"
    host.lets_write("written", "--write", shared, "--command", NODE, server, shared)
    with host.serves() as client:
        client.call("written_write_file", path=str(shared / "new.txt"), content="written through the portal")
    assert (shared / "new.txt").read_text() == "written through the portal"


def memory(host, packages):
    kept = host.root / "srv/memory"
    kept.mkdir()
    flags = ["--write", kept, "--env", f"MEMORY_FILE_PATH={kept}/memory.jsonl", "--command", NODE, packages / "server-memory/dist/index.js"]
    host.lets_write("memory", *flags)
    with host.serves() as client:
        client.call("memory_create_entities", entities=[{"name": "Ada", "entityType": "person", "observations": ["likes bridges"]}])
        assert "likes bridges" in client.call("memory_read_graph")
    assert "likes bridges" in (kept / "memory.jsonl").read_text()


def safe(repository):
    return ["--env", "GIT_CONFIG_COUNT=1", "--env", "GIT_CONFIG_KEY_0=safe.directory", "--env", f"GIT_CONFIG_VALUE_0={repository}"]


def git(host, _):
    repository = host.repository("repo")
    command = [*environment(host, host.root / "opt/git"), "--repository", repository]
    host.add("git", "--read", repository, *safe(repository), "--command", *command)
    with host.serves() as client:
        assert "the first of all" in client.call("git_git_log", repo_path=str(repository))
        refused(client, "git_git_create_branch", repo_path=str(repository), branch_name="other")
    assert "other" not in host.run("git", "-C", repository, "branch")


def branches(host, _):
    repository = host.repository("changed")
    command = [*environment(host, host.root / "opt/git"), "--repository", repository]
    host.lets_write("branches", "--write", repository, *safe(repository), "--command", *command)
    with host.serves() as client:
        client.call("branches_git_create_branch", repo_path=str(repository), branch_name="other")
    assert "other" in host.run("git", "-c", f"safe.directory={repository}", "-C", repository, "branch")


def home(host, _):
    at = host.root / "srv" / OWNER
    at.mkdir()
    environment(host, at / "venv")
    repository = host.repository("repo", owner=at)
    account = pwd.getpwnam(OWNER)
    for path in [at, *at.rglob("*")]:
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    at.chmod(0o700)
    command = [at / "venv/bin/python", at / "venv/bin/mcp-server-git", "--repository", repository]
    host.add("home", "--user", OWNER, "--read", repository, "--command", *command)
    with host.serves() as client:
        assert "the first of all" in client.call("home_git_log", repo_path=str(repository))


def refused(client, tool, **arguments):
    try:
        said = client.call(tool, **arguments)
    except mcp.RpcError:
        return
    raise AssertionError(f"{tool} did what it may not: {json.dumps(said)[:300]}")
