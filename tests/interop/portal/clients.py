"""Clients as people have them, through the portal to servers of either era: the official SDKs, mcp-remote, the Inspector."""

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time

import lab
import mcp
from upstream import Upstream

SECONDS = 60
# Clients whose makers decide when they probe and fall back; each with what it is given after the portal's URL.
SDKS = {
    "the Python SDK, with a handshake": ("python", ["legacy", "h1"]),
    "the Python SDK, 2026-07-28": ("python", [mcp.MODERN, "h1"]),
    "the TypeScript SDK v1": ("v1_client.mjs", []),
    "the TypeScript SDK v2, with a handshake": ("v2_client.mjs", ["legacy"]),
    "the TypeScript SDK v2, 2026-07-28": ("v2_client.mjs", [mcp.MODERN]),
}


def run_all(results, modules, gnomon, sdks):
    for era in ("legacy", "modern"):
        for name, (program, arguments) in SDKS.items():
            if program == "python":
                command = [sdks / "venv/bin/python", lab.HERE.parent / "python/mcp_client.py"]
            else:
                command = ["node", sdks / "node" / program]
            title = f"clients: {name}, to a server that is {era}"
            results.check(title, lambda command=command, more=arguments, era=era: sdk(gnomon, era, command, more))
        results.check(f"clients: mcp-remote, to a server that is {era}", lambda era=era: mcp_remote(gnomon, era, modules))
        results.check(f"clients: the Inspector, to a server that is {era}", lambda era=era: inspector(gnomon, era, modules))


@contextlib.contextmanager
def portal_before(gnomon, era):
    """A portal with one server, and an environment of its own for a client."""
    upstream = Upstream("up", era)
    try:
        with lab.portal(gnomon, {"up": upstream.url}, prefix="never") as portal, tempfile.TemporaryDirectory(prefix="gnomon-client-") as home:
            yield portal, {"PATH": os.environ["PATH"], "HOME": home, "LANG": "C.UTF-8", "NODE_NO_WARNINGS": "1"}
    finally:
        upstream.stop()


def run(command, environment):
    command = [str(part) for part in command]
    done = subprocess.run(command, env=environment, cwd=environment["HOME"], stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS)
    assert done.returncode == 0, f"ended with {done.returncode}: {(done.stderr + done.stdout).decode(errors='replace')[-600:]}"
    return done.stdout


def sdk(gnomon, era, command, arguments):
    with portal_before(gnomon, era) as (portal, environment):
        seen = json.loads(run([*command, portal.url, *arguments], environment))
        assert seen["tools"] == ["echo", "who"], seen
        assert seen["allowed"] == {"text": "grüße", "isError": False}, seen
        # There is no such tool: an error of either kind, and the session goes on.
        assert "thrown" in seen["forbidden"] or seen["forbidden"]["isError"], seen
        assert seen["after"] == {"text": "again", "isError": False}, seen


def inspector(gnomon, era, modules):
    with portal_before(gnomon, era) as (portal, environment):
        command = [lab.node_of(modules), modules / ".bin/mcp-inspector", "--cli", portal.url, "--transport", "http"]
        listed = json.loads(run([*command, "--method", "tools/list"], environment))
        assert [tool["name"] for tool in listed["tools"]] == ["echo", "who"], listed
        called = json.loads(run([*command, "--method", "tools/call", "--tool-name", "echo", "--tool-arg", "text=hello"], environment))
        assert called["content"][0]["text"] == "hello", called


def mcp_remote(gnomon, era, modules):
    """On standard input and output, as programs start it that know no HTTP."""
    with portal_before(gnomon, era) as (portal, environment):
        command = [str(part) for part in (lab.node_of(modules), modules / ".bin/mcp-remote", portal.url, "--allow-http")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        bridge = subprocess.Popen(command, env=environment, cwd=environment["HOME"], **pipes)
        try:
            handshake = {"protocolVersion": mcp.LEGACY, "capabilities": {}, "clientInfo": {"name": "checks", "version": "1"}}
            assert ask(bridge, 1, "initialize", handshake)["serverInfo"]
            tell(bridge, {"jsonrpc": "2.0", "method": "notifications/initialized"})
            assert [tool["name"] for tool in ask(bridge, 2, "tools/list", {})["tools"]] == ["echo", "who"]
            called = ask(bridge, 3, "tools/call", {"name": "echo", "arguments": {"text": "grüße"}})
            assert called["content"][0]["text"] == "grüße", called
        finally:
            bridge.terminate()
            try:
                bridge.wait(5)
            except subprocess.TimeoutExpired:
                bridge.kill()
                bridge.wait()


def tell(bridge, message):
    bridge.stdin.write(json.dumps(message).encode() + b"\n")
    bridge.stdin.flush()


def ask(bridge, message_id, method, params):
    tell(bridge, {"jsonrpc": "2.0", "id": message_id, "method": method, "params": params})
    deadline = time.monotonic() + SECONDS
    while select.select([bridge.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
        line = bridge.stdout.readline()
        assert line, "mcp-remote ended"
        answer = json.loads(line)
        if answer.get("id") == message_id and "method" not in answer:
            assert "result" in answer, answer
            return answer["result"]
    raise AssertionError(f"no answer to {method}")
