"""As little of an MCP client as tells what a server sends: both eras, over plain HTTP, each request on a connection of its own."""

import http.client
import itertools
import json
import time
import urllib.parse

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
ids = itertools.count(1)


class RpcError(Exception):
    def __init__(self, status, error):
        super().__init__(f"HTTP {status}: {error}")
        self.status, self.error = status, error


class Client:
    """A caller of one era. What it opens it leaves to be found by the server: ends are tested too."""

    def __init__(self, url, era=LEGACY, timeout=30, fills_in=None):
        """A person before it, if there is one, fills this into each form."""
        self.at, self.era, self.timeout, self.session = urllib.parse.urlsplit(url), era, timeout, None
        self.fills_in = fills_in

    def send(self, method, body=None, **headers):
        """The open answer to one HTTP request."""
        connection = http.client.HTTPConnection(self.at.hostname, self.at.port, timeout=self.timeout)
        fields = {"accept": "application/json, text/event-stream"} | headers
        if self.session:
            fields |= {"mcp-session-id": self.session, "mcp-protocol-version": self.era}
        if body is not None:
            fields["content-type"] = "application/json"
            body = json.dumps(body)
        connection.request(method, self.at.path, body, fields)
        response = connection.getresponse()
        # Whoever ends the answer ends the connection.
        response.connection = connection
        return response

    def message(self, method, params, message_id):
        headers = {}
        if self.era == MODERN:
            about = {"protocolVersion": MODERN, "clientInfo": {"name": "portal-checks", "version": "1"}, "clientCapabilities": {}}
            params = params | {"_meta": {f"io.modelcontextprotocol/{name}": value for name, value in about.items()}}
            headers = {"mcp-protocol-version": MODERN, "mcp-method": method}
            name = params.get("name") or params.get("uri")
            if name:
                headers["mcp-name"] = name
        return {"jsonrpc": "2.0", "id": message_id, "method": method, "params": params}, headers

    def request(self, method, **params):
        """The result, or RpcError."""
        message_id = next(ids)
        body, headers = self.message(method, params, message_id)
        response = self.send("POST", body, **headers)
        try:
            self.session = response.headers.get("mcp-session-id", self.session)
            deadline = time.monotonic() + self.timeout
            for message in messages(response):
                # A stream that goes on for ever keeps each single read short.
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no answer to {method} within {self.timeout} s")
                if message.get("method") == "elicitation/create" and self.fills_in is not None:
                    filled_in = {"action": "accept", "content": self.fills_in}
                    self.send("POST", {"jsonrpc": "2.0", "id": message["id"], "result": filled_in}).connection.close()
                if message.get("id") == message_id and "method" not in message:
                    if "error" in message:
                        raise RpcError(response.status, message["error"])
                    return message["result"]
        finally:
            response.connection.close()
        raise RpcError(response.status, "no answer")

    def open(self):
        """The handshake of the era."""
        if self.era == MODERN:
            return self.request("server/discover")
        info = {"name": "portal-checks", "version": "1"}
        capabilities = {} if self.fills_in is None else {"elicitation": {}}
        result = self.request("initialize", protocolVersion=self.era, capabilities=capabilities, clientInfo=info)
        self.send("POST", {"jsonrpc": "2.0", "method": "notifications/initialized"}).connection.close()
        return result

    def tools(self):
        return [tool["name"] for tool in self.request("tools/list")["tools"]]

    def call(self, name, **arguments):
        """What a tool says."""
        result = self.request("tools/call", name=name, arguments=arguments)
        text = "".join(part.get("text", "") for part in result["content"])
        if result.get("isError"):
            raise RpcError(200, text)
        return text


def events(response):
    """(id, data) of each server-sent event."""
    event_id, data = None, []
    for line in response:
        name, _, value = line.decode().rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "id":
            event_id = value
        elif not name and not value and data:
            yield event_id, "\n".join(data)
            data = []


def messages(response):
    """The messages of an answer, in either of its forms."""
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        for _, data in events(response):
            if data:
                yield json.loads(data)
        return
    body = response.read()
    if body.startswith(b"{"):
        yield json.loads(body)
    elif response.status >= 400:
        raise RpcError(response.status, body[:200])
