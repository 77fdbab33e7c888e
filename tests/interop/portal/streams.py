"""What the suites do not look at closely: that a stream can be resumed without loss, and who may talk to the portal at all."""

import lab
import mcp


def run_all(results, modules, gnomon):
    if not any(results.wanted(name) for name in CHECKS):
        return
    with lab.fixture(modules) as url, lab.portal(gnomon, {"up": url}, prefix="never") as portal:
        for name, body in CHECKS.items():
            results.check(name, lambda body=body: body(portal.url))


def resumed(url):
    """The fixture ends this stream before its answer; a gateway that drops event ids loses the answer for good."""
    client = mcp.Client(url)
    client.open()
    body, _ = client.message("tools/call", {"name": "test_reconnection", "arguments": {}}, "cut")
    # A gateway may also wait itself, and answer on the first stream.
    last, answers = None, []
    response = client.send("POST", body)
    for last, data in mcp.events(response):
        answers += [data] if '"cut"' in data else []
    assert last, "the events have no ids"
    if not answers:
        response = client.send("GET", **{"accept": "text/event-stream", "last-event-id": last})
        assert response.status == 200, f"the stream is gone: HTTP {response.status}"
        answers = next(([data] for _, data in mcp.events(response) if '"cut"' in data), [])
    assert len(answers) == 1, f"{len(answers)} answers"


def dropped(url):
    """The client's own connection breaks while a tool reports its progress: nothing may be lost, or come twice."""
    client = mcp.Client(url)
    client.open()
    params = {"name": "test_tool_with_progress", "arguments": {}, "_meta": {"progressToken": "p"}}
    body, _ = client.message("tools/call", params, "dropped")
    response = client.send("POST", body)
    seen = []
    for last, data in mcp.events(response):
        if data:
            seen.append(data)
            break
    response.close()
    response.connection.close()
    response = client.send("GET", **{"accept": "text/event-stream", "last-event-id": last})
    assert response.status == 200, f"the stream is gone: HTTP {response.status}"
    for _, data in mcp.events(response):
        seen += [data] if data else []
        if '"dropped"' in data:
            break
    progress = [data for data in seen if "notifications/progress" in data]
    assert len(progress) == 3 and len(seen) == 4, f"{len(progress)} reports in {len(seen)} messages"


def of_another_session(url):
    """An event id is no key to somebody else's answers."""
    first, second = mcp.Client(url), mcp.Client(url)
    first.open()
    second.open()
    body, _ = first.message("tools/call", {"name": "test_reconnection", "arguments": {}}, "mine")
    last = [event_id for event_id, _ in mcp.events(first.send("POST", body))][-1]
    response = second.send("GET", **{"accept": "text/event-stream", "last-event-id": last})
    if response.status == 200:
        second.timeout = 2
        response.connection.sock.settimeout(2)
        try:
            for _, data in mcp.events(response):
                assert '"mine"' not in data, "another session's answer"
        except TimeoutError:
            pass


def rebinding(url):
    """A page at a stranger's name that leads here is refused, in both eras, by Host and by Origin alone."""
    for era in (mcp.LEGACY, mcp.MODERN):
        client = mcp.Client(url, era)
        port = client.at.port
        body, headers = client.message("server/discover" if era == mcp.MODERN else "initialize", first_params(era), 1)
        for field in ({"host": f"evil.example:{port}"}, {"origin": "http://evil.example"}, {"origin": "null"}):
            status = client.send("POST", body, **headers, **field).status
            assert status in (400, 403, 421), f"{era}, {field}: HTTP {status}"
        for field in ({"host": f"localhost:{port}"}, {"origin": f"http://localhost:{port}"}):
            status = client.send("POST", body, **headers, **field).status
            assert status == 200, f"{era}, {field}: HTTP {status}"


def first_params(era):
    info = {"name": "portal-checks", "version": "1"}
    return {} if era == mcp.MODERN else {"protocolVersion": era, "capabilities": {}, "clientInfo": info}


def opaque(url):
    """What a client is given as its session tells it nothing of upstreams, and no two look alike."""
    clients = [mcp.Client(url) for _ in range(20)]
    for client in clients:
        client.open()
    sessions = [client.session for client in clients]
    assert len(set(sessions)) == len(sessions), "a session id came twice"
    for session in sessions:
        assert len(session) >= 22, f"{session} can be guessed"
    heads = {session[:8] for session in sessions}
    assert len(heads) == len(heads | {session[:8] for session in sessions}) and len(heads) > 1, "ids share their beginning"
    guessed = mcp.Client(url)
    guessed.session = sessions[0][:-1] + ("0" if sessions[0][-1] != "0" else "1")
    status = guessed.send("POST", guessed.message("tools/list", {}, 1)[0]).status
    assert status == 404, f"an id next to a real one: HTTP {status}"


CHECKS = {
    "streams: an answer on a stream that ended is fetched with Last-Event-ID": resumed,
    "streams: after a broken connection nothing is lost or repeated": dropped,
    "streams: an event id of another session gives nothing": of_another_session,
    "rebinding: a strange Host or Origin is refused": rebinding,
    "sessions: ids are opaque and cannot be guessed": opaque,
}
