"""Every era of client with every era of server, alone and mixed: lists, calls and errors come through, or say why not."""

import contextlib
import shutil
import sys

import lab
import mcp
from upstream import ERAS, Upstream

# The system's, as the server is another user than the one who runs this.
PYTHON = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
# One of each kind.
MIXED = "one of every kind"
CLIENTS = ("2025-03-26", "2025-06-18", mcp.LEGACY, mcp.MODERN)


@contextlib.contextmanager
def fleet(*eras):
    """A server of each era, by that name, and what a portal is told of them."""
    running = [Upstream(era, era) for era in eras if era != "stdio"]
    try:
        reached = {upstream.name: upstream.url for upstream in running}
        if "stdio" in eras:
            reached["stdio"] = [PYTHON, str(lab.HERE / "stdio_server.py")]
        yield running, reached
    finally:
        for upstream in running:
            upstream.stop()


def run_all(results, gnomon):
    kinds = [*ERAS, "stdio"]
    for server in kinds:
        for client in CLIENTS:
            results.check(title(client, server), lambda s=server, c=client: works(gnomon, [s], c))
    for client in CLIENTS:
        results.check(title(client, MIXED), lambda c=client: works(gnomon, kinds, c))


def title(client, server):
    return f"eras: a client of {client}, a server that is {server}"


def works(gnomon, servers, era):
    with fleet(*servers) as (_, reached), lab.portal(gnomon, reached) as portal:
        client = mcp.Client(portal.url, era)
        client.open()
        tools = set(client.tools())
        wanted = {f"{server}_{tool}" for server in servers for tool in ("echo", "who")}
        assert wanted <= tools, f"without {sorted(wanted - tools)}; {portal.said()}"
        for server in servers:
            assert client.call(f"{server}_who") == server
            assert client.call(f"{server}_echo", text="grüße") == "grüße"
        try:
            said = client.call(f"{servers[0]}_nothing")
        except mcp.RpcError:
            return
        raise AssertionError(f"a tool that is not there answered {said!r}")
