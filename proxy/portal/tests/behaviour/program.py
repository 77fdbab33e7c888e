"""An MCP server on standard input and output whose every word is ours: `python3 program.py legacy|modern|deaf [--stubborn]`.

What it is told to do by its tools is what a hostile or broken one would do. It needs nothing but Python's own library.
"""

import ctypes
import json
import os
import signal
import socket
import sys
import time

ERA = sys.argv[1] if len(sys.argv) > 1 else "legacy"
MODERN = "2026-07-28"
NAMES = ("echo pid die hang garbage giant progress ask read write connect local status environment say leave bomb call count remember recall where elicit sample wait cancelled wrong_id half slow log level roots touch begin").split()
TOOLS = [{"name": name, "inputSchema": {"type": "object"}} for name in NAMES]
KEPT = {"text": "", "cancelled": 0}
ASKED = {
    "elicit": ("elicitation/create", {"message": "Which?", "requestedSchema": {"type": "object", "properties": {}}}),
    "sample": ("sampling/createMessage", {"messages": [], "maxTokens": 5}),
    "roots": ("roots/list", {}),
}
# As it calls itself where two of it are one portal's.
SERVER = os.environ.get("SERVER", "program")
DOCUMENT = "doc://one"
TASKS = "io.modelcontextprotocol/tasks"
MADE = "2026-01-01T00:00:00Z"
LISTENING = []

if "--stubborn" in sys.argv:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def send(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0"} | message) + "\n")
    sys.stdout.flush()


def until(wanted):
    """The message that is wanted; whatever else comes meanwhile is answered."""
    for line in sys.stdin:
        message = json.loads(line)
        if wanted(message):
            return message
        if "id" in message and "method" in message:
            answer(message)
    sys.exit(0)


def ask(name, params):
    """What its client says to a question."""
    method, asked = ASKED[name]
    if ERA == "modern":
        if "q" not in params.get("inputResponses", {}):
            return {"resultType": "input_required", "inputRequests": {"q": {"method": method, "params": asked}}}
        told = {"result": params["inputResponses"]["q"]}
    else:
        KEPT["asked"] = KEPT.get("asked", 0) + 1
        number = f"q{KEPT['asked']}"
        send({"id": number, "method": method, "params": asked})
        told = until(lambda message: message.get("id") == number and "method" not in message)
    content = told.get("result", {}).get("content", {})
    roots = told.get("result", {}).get("roots", [{}]) if name == "roots" else [{}]
    return roots[0].get("name") or content.get("said") or content.get("text") or f"refused: {told.get('error')}"


def attempt(act):
    """What came of it, as text."""
    try:
        return act()
    except OSError as error:
        return f"denied: {error.strerror}"


def connect(host, port):
    with socket.create_connection((host, port), 5):
        return "connected"


def local(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.connect(path)
    return "connected"


def paired(path, kind):
    """Whether one of a pair of sockets can be led to another socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with ours, theirs:
        ours.connect(path)
    return "connected"


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return "written"


def read(path):
    if os.path.isdir(path):
        return ",".join(sorted(os.listdir(path)))
    with open(path) as file:
        return file.read()


def leave():
    """A process of a session of its own, whose parent is gone."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        left = os.fork()
        if left == 0:
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            time.sleep(600)
            os._exit(0)
        os.write(writing, str(left).encode())
        os._exit(0)
    return os.read(reading, 20).decode()


def bomb():
    """As many processes as it gets, up to many more than it may."""
    made = []
    try:
        while len(made) < 2000:
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            made.append(child)
    except OSError:
        pass
    for child in made:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return str(len(made))


def call(number, arguments):
    """A system call by its number."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(ctypes.c_long(number), *[ctypes.c_long(argument) for argument in arguments]) >= 0:
        return "done"
    return f"denied: {os.strerror(ctypes.get_errno())}"


def use(name, given, params, number):
    match name:
        case "elicit" | "sample" | "roots":
            return ask(name, params)
        case "touch":
            if ERA != "modern" or LISTENING:
                send({"method": "notifications/resources/updated", "params": {"uri": DOCUMENT}})
            return "touched"
        case "begin" if ERA == "modern":
            return {"resultType": "task", "taskId": "t-1", "status": "working", "ttlMs": None, "createdAt": MADE, "lastUpdatedAt": MADE}
        case "begin":
            return {"task": {"taskId": "t-1", "status": "working", "ttl": None, "createdAt": MADE, "lastUpdatedAt": MADE}}
        case "wait":
            until(lambda message: message.get("method") == "notifications/cancelled" and message["params"]["requestId"] == number)
            KEPT["cancelled"] += 1
            return None
        case "cancelled":
            return str(KEPT["cancelled"])
        case "wrong_id":
            send({"id": "another", "result": {"content": []}})
            return None
        case "half":
            sys.stdout.write('{"jsonrpc": "2.0", "id": 7, "resu')
            sys.stdout.flush()
            return None
        case "echo":
            return given.get("text", "")
        case "pid":
            return str(os.getpid())
        case "die":
            os._exit(given.get("code", 3))
        case "hang":
            time.sleep(600)
        case "log":
            for level in ("debug", "warning") if "text" in given else ("warning",):
                text = given.get("text", f"{SERVER} logs")
                send({"method": "notifications/message", "params": {"level": level, "data": text}})
            return "logged"
        case "level":
            return KEPT.get("level", "")
        case "slow":
            send({"method": "notifications/tools/list_changed"})
            time.sleep(given["seconds"])
            return "done"
        case "garbage":
            sys.stdout.write("this is no JSON\n{\"half\":\n\n[]\n" + "\x00\xff" + "\n")
            return "said"
        case "giant":
            sys.stdout.write("x" * given["bytes"] + "\n")
            return "said"
        case "progress":
            token = params["_meta"]["progressToken"]
            send({"method": "notifications/progress", "params": {"progressToken": token, "progress": 1}})
            return "progressed"
        case "read":
            return attempt(lambda: read(given["path"]))
        case "write":
            return attempt(lambda: write(given["path"], given.get("text", "")))
        case "connect":
            return attempt(lambda: connect(given["host"], given["port"]))
        case "local":
            if kind := given.get("pair"):
                return attempt(lambda: paired(given["path"], getattr(socket, kind)))
            return attempt(lambda: local(given["path"]))
        case "status":
            return read("/proc/self/status")
        case "environment":
            return json.dumps(dict(os.environ))
        case "say":
            sys.stderr.write(given["text"].replace("$KEY", os.environ.get("KEY", "")) + "\n")
            sys.stderr.flush()
            return "said"
        case "leave":
            return leave()
        case "bomb":
            return bomb()
        case "call":
            return call(given["number"], given.get("arguments", []))
        case "remember":
            KEPT["text"] = given["text"]
            return "kept"
        case "recall":
            return KEPT["text"]
        case "where":
            return json.dumps({"cwd": os.getcwd(), "home": os.environ["HOME"], "file": __file__})
    return None


def result(method, params, number):
    done = {"resultType": "complete"} if ERA == "modern" else {}
    match method:
        case "initialize" if ERA != "modern":
            about = {"name": "program", "version": "1"}
            can = {"tools": {}, "logging": {}, "resources": {"subscribe": True}, "tasks": {"requests": {"tools": {"call": {}}}}}
            return {"protocolVersion": "2025-11-25", "capabilities": can, "serverInfo": about}
        case "server/discover" if ERA == "modern":
            can = {"tools": {"listChanged": True}, "resources": {"subscribe": True}, "extensions": {TASKS: {}}}
            return done | {"supportedVersions": [MODERN], "capabilities": can, "ttlMs": 0, "cacheScope": "public"}
        case "resources/list":
            return done | {"resources": [{"uri": DOCUMENT, "name": "document"}]} | ({"ttlMs": 0, "cacheScope": "public"} if ERA == "modern" else {})
        case "resources/templates/list":
            return done | {"resourceTemplates": []} | ({"ttlMs": 0, "cacheScope": "public"} if ERA == "modern" else {})
        case "resources/subscribe" if ERA != "modern":
            return {}
        case "subscriptions/listen" if ERA == "modern":
            LISTENING.append(number)
            send({"method": "notifications/subscriptions/acknowledged", "params": {"notifications": params["notifications"]}})
            return False
        case "tasks/get" if ERA == "modern":
            return done | {"taskId": "t-1", "status": "completed", "ttlMs": None, "result": {"content": [{"type": "text", "text": SERVER}]}}
        case "tasks/get":
            return {"taskId": "t-1", "status": "completed", "ttl": None, "createdAt": MADE, "lastUpdatedAt": MADE}
        case "tasks/result" if ERA != "modern":
            return {"content": [{"type": "text", "text": SERVER}]}
        case "tools/list":
            return done | {"tools": TOOLS} | ({"ttlMs": 0, "cacheScope": "public"} if ERA == "modern" else {})
        case "tools/call":
            text = use(params["name"], params.get("arguments", {}), params, number)
            if isinstance(text, dict):
                return text
            if text is None and params["name"] in ("wait", "wrong_id", "half"):
                return False
            return None if text is None else done | {"content": [{"type": "text", "text": text}]}
        case "ping" if ERA != "modern":
            return {}
        case "logging/setLevel" if ERA != "modern":
            KEPT["level"] = params["level"]
            return {}
    return None


def answer(message):
    told = result(message["method"], message.get("params", {}), message["id"])
    if told is False:
        return
    send({"id": message["id"]} | ({"error": {"code": -32601, "message": "Method not found"}} if told is None else {"result": told}))


def main():
    print("starts", file=sys.stderr, flush=True)
    if ERA == "fails":
        sys.exit("the reason why it fails")
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message or "method" not in message:
            continue
        if ERA == "deaf" and message["method"] == "server/discover":
            continue
        answer(message)
    if "--stubborn" in sys.argv:
        while True:
            time.sleep(600)


main()
