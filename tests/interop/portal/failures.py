"""Ten servers of which one fails, in every way that a server fails: the other nine answer at any time, the client is told
what is missing, what comes back is found again, and no answer names an upstream's address."""

import contextlib
import json
import threading
import time

import lab
import mcp
from upstream import BlackHole, Upstream

# What is promised is one second; the machine may be busy with something else as well.
PROMPT_SECONDS = 2.0
# Within this a server that is back is in use again.
BACK_SECONDS = 40
MISSING = "dev.gnomon/missing"
LIES = ("not JSON", "another id", "huge answer", "endless stream", "breaks off")


@contextlib.contextmanager
def ten(gnomon, bad=None, era="dual"):
    """Nine good servers and `bad`, or a tenth good one; the value is the portal and the tenth."""
    fleet = [Upstream(f"u{n}", era) for n in range(10 if bad is None else 9)]
    tenth = bad or fleet[9]
    reached = {upstream.name: upstream.url for upstream in fleet[:9]} | {"bad": tenth.url}
    try:
        with lab.portal(gnomon, reached) as portal:
            yield portal, tenth
    finally:
        for upstream in fleet:
            upstream.stop()
        if bad is not None:
            bad.stop()


def timed(body):
    start = time.monotonic()
    value = body()
    took = time.monotonic() - start
    assert took < PROMPT_SECONDS, f"took {took:.1f} s"
    return value, took


def nine_answer(portal, era, client=None):
    """A caller who comes now, or one who is there, reaches the nine at once. Returns the longest wait and the last list."""
    waits = []
    if client is None:
        client = mcp.Client(portal.url, era)
        waits.append(timed(client.open)[1])
    listed, took = timed(lambda: client.request("tools/list"))
    waits.append(took)
    names = {tool["name"] for tool in listed["tools"]}
    missing = {f"u{n}_echo" for n in range(9)} - names
    assert not missing, f"the list is without {sorted(missing)}"
    for n in (0, 8):
        said, took = timed(lambda n=n: client.call(f"u{n}_who"))
        assert said == f"u{n}", said
        waits.append(took)
    return max(waits), listed


def told(listed, why):
    """The list says which server is missing, and gives no address away."""
    missing = listed.get("_meta", {}).get(MISSING, [])
    assert any(entry.get("server") == "bad" for entry in missing), f"nobody is told that {why}: {missing}"
    silent(json.dumps(listed))


def silent(text):
    assert "127.0.0.1" not in text and "http://" not in text, f"an address is given away: {text[:300]}"


def bad_call(portal, era, within=PROMPT_SECONDS):
    """A call to the bad one fails with a reason, soon, and without an address."""
    client = mcp.Client(portal.url, era)
    client.open()
    start = time.monotonic()
    try:
        said = client.call("bad_who")
    except mcp.RpcError as refused:
        silent(str(refused))
        took = time.monotonic() - start
        assert took < within, f"failed only after {took:.1f} s"
        return
    raise AssertionError(f"the bad server answered {said!r}")


def back(portal, era):
    """Waits until the tenth is in use again, by a caller who comes now."""
    deadline = time.monotonic() + BACK_SECONDS
    while True:
        client = mcp.Client(portal.url, era)
        try:
            client.open()
            if client.call("bad_who") == "u9":
                return
        except mcp.RpcError:
            pass
        assert time.monotonic() < deadline, "it is back and not found"
        time.sleep(0.2)


def closed(gnomon, era):
    port = lab.free_port()

    class Closed:
        url = f"http://127.0.0.1:{port}/mcp"

        def stop(self):
            pass

    with ten(gnomon, Closed()) as (portal, _):
        waited, listed = nine_answer(portal, era)
        told(listed, "a port is closed")
        bad_call(portal, era)
        return f"({waited * 1000:.0f} ms)"


def black_hole(gnomon, era):
    with ten(gnomon, BlackHole()) as (portal, _):
        waited, listed = nine_answer(portal, era)
        told(listed, "a server never answers")
        bad_call(portal, era)
        return f"({waited * 1000:.0f} ms)"


def dies(gnomon, era):
    with ten(gnomon) as (portal, tenth):
        client = mcp.Client(portal.url, era)
        client.open()
        nine_answer(portal, era, client)
        tenth.stop()
        there, _ = nine_answer(portal, era, client)
        bad_call(portal, era)
        new, listed = nine_answer(portal, era)
        told(listed, "a server died")
        return f"({max(there, new) * 1000:.0f} ms)"


def comes_back(gnomon, era):
    with ten(gnomon) as (portal, tenth):
        client = mcp.Client(portal.url, era)
        client.open()
        assert client.call("bad_who") == "u9"
        tenth.stop()
        bad_call(portal, era)
        tenth.start()
        back(portal, era)
        assert client.call("bad_who") == "u9", "the session from before does not see it"
        nine_answer(portal, era, client)


def frozen(gnomon, era):
    with ten(gnomon) as (portal, tenth):
        client = mcp.Client(portal.url, era)
        client.open()
        assert client.call("bad_who") == "u9"
        tenth.freeze()
        hanging = threading.Thread(target=quiet_call, args=(portal, era), daemon=True)
        hanging.start()
        there, _ = nine_answer(portal, era, client)
        new, _ = nine_answer(portal, era)
        tenth.thaw()
        hanging.join(60)
        back(portal, era)
        return f"({max(there, new) * 1000:.0f} ms)"


def quiet_call(portal, era):
    """A call that may fail."""
    try:
        client = mcp.Client(portal.url, era)
        client.open()
        client.call("bad_who")
    except (mcp.RpcError, OSError):
        pass


def forgets(gnomon, era):
    """Restarted without its sessions: they are made again, and the caller sees nothing of it."""
    with ten(gnomon, era="legacy") as (portal, tenth):
        client = mcp.Client(portal.url, era)
        client.open()
        assert client.call("bad_who") == "u9"
        tenth.forget()
        assert client.call("bad_who") == "u9"
        tenth.stop()
        tenth.start()
        assert client.call("bad_who") == "u9"
        nine_answer(portal, era, client)


def slow(gnomon, era):
    with ten(gnomon) as (portal, tenth):
        client = mcp.Client(portal.url, era)
        client.open()
        tenth.fault = "slow"
        started = threading.Thread(target=quiet_call, args=(portal, era), daemon=True)
        started.start()
        there, _ = nine_answer(portal, era, client)
        new, _ = nine_answer(portal, era)
        # Slow is not dead: who asks it gets an answer.
        assert client.call("bad_who") == "u9"
        started.join(60)
        return f"({max(there, new) * 1000:.0f} ms)"


def lies(gnomon, era, lie):
    with ten(gnomon) as (portal, tenth):
        client = mcp.Client(portal.url, era, timeout=8)
        client.open()
        tenth.fault = f"lie: {lie}"
        try:
            said = client.call("bad_who")
            raise AssertionError(f"a lie was passed on: {said[:100]!r}")
        except mcp.RpcError as refused:
            silent(str(refused))
        except TimeoutError:
            assert lie == "endless stream", "no answer"
        waited, _ = nine_answer(portal, era, client)
        tenth.fault = None
        back(portal, era)
        return f"({waited * 1000:.0f} ms)"


ROWS = {
    "its port is closed": closed,
    "it accepts and never answers": black_hole,
    "it dies": dies,
    "it comes back": comes_back,
    "it is frozen, and thaws": frozen,
    "it restarts without its sessions": forgets,
    "it is slow": slow,
}


def run_all(results, gnomon):
    for era in (mcp.LEGACY, mcp.MODERN):
        for what, row in ROWS.items():
            results.check(f"failures: one of ten for a client of {era}: {what}", lambda row=row, era=era: row(gnomon, era))
        for lie in LIES:
            name = f"failures: one of ten for a client of {era}: it lies ({lie})"
            results.check(name, lambda lie=lie, era=era: lies(gnomon, era, lie))
