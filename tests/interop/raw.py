"""The same HTTP requests whichever way they go, and every byte of the answers.

Statuses, header fields and bodies are kept as they come, and compared without any reading of JSON. What differs
from run to run is numbered in the order in which it appears: session ids, event ids, dates and ports.
"""

import http.client
import json
import re
import time
import urllib.parse

from stack import BOUND, Failure, eventually

# Of one connection each (RFC 9110, section 7.6.1), framing, or of the moment.
OWN = {"connection", "content-length", "date", "keep-alive", "transfer-encoding"}
# What `proxy` and `serve` are there to change.
CHANGED = {"accept-encoding", "host", "tower-seal-peer"}
RANDOM = re.compile(
    r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|\b[0-9a-f]{32}\b"  # session ids, and event ids of the TypeScript SDK
    r"|(?<=\bid: )[0-9]+(?=\r?$)|(?:127\.0\.0\.1|localhost):[0-9]+",
    re.MULTILINE,
)
BOTH = "application/json, text/event-stream"
SECRET = [b"jsonrpc", b"mcp-session-id", b"tools/call", b"Bearer x"]  # some of what nobody in between is to read
META = "io.modelcontextprotocol/"
WIDE = "ünïcode \N{PARTY POPPER} \\ \" \x7f" * 12_000  # some 300 KiB: many frames, and not ASCII


def use(way, visit):
    """What came back by step; and what else held, some of it only where something is sealed."""
    caller = Caller(way.url)
    try:
        visit(caller)
    except (AssertionError, Failure, OSError, http.client.HTTPException) as error:
        return caller.steps.plain(), {f"it was not gone through to the end: {error!r}": False}
    checks = {}
    if way.tap and caller.session:
        for step, session in (("unknown", "0" * 32), ("deleted", caller.session)):
            answer = caller.open("GET", mcp_session_id=session).head().rest()
            checks[f"a session that is {step} gets 404 from serve"] = answer.status == 404
    if way.tap and caller.peer:
        checks["the server is told who calls, by serve alone"] = caller.peer == [way.node]
    return caller.steps.plain(), checks


class Stream:
    """One response: its head is here, its body comes when it is read."""

    def __init__(self, url, method, path, headers, body):
        where = urllib.parse.urlsplit(url)
        self.connection = http.client.HTTPConnection(where.hostname, where.port, timeout=BOUND)
        self.connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers:
            self.connection.putheader(name, value)
        if body is not None:
            self.connection.putheader("content-length", str(len(body)))
        self.connection.endheaders(body)
        self.seen = b""
        self.deadline = time.monotonic() + BOUND

    def head(self):
        """Waits for the head alone."""
        self.response = self.connection.getresponse()
        return self

    @property
    def status(self):
        return self.response.status

    def field(self, name):
        return self.response.headers.get(name)

    def until(self, pattern):
        """Reads until something has come."""
        while not re.search(pattern, self.seen):
            assert self.more(), f"the stream ended before {pattern!r}: {self.seen[-300:]!r}"
        return self

    def rest(self):
        while self.more():
            pass
        self.close()
        return self

    def more(self):
        assert time.monotonic() < self.deadline, f"the stream has no end: {self.seen[-300:]!r}"
        data = self.response.read1(65536)
        self.seen += data
        return data

    def close(self):
        self.connection.close()

    def __str__(self):
        fields = [(name.lower(), value) for name, value in self.response.headers.items()]
        lines = [f"{name}: {value}" for name, value in sorted(fields, key=lambda field: field[0]) if name not in OWN]
        return "\n".join([f"{self.status}", *lines, "", self.seen.decode()])


class Transcript(dict):
    """What came back, by step."""

    def __setitem__(self, step, answer):
        assert step not in self, step
        super().__setitem__(step, str(answer))

    def plain(self):
        """The same with numbers for what is random, in the order of the steps."""
        names = {}
        return {
            step: RANDOM.sub(lambda found: f"<{names.setdefault(found[0], len(names) + 1)}>", text)
            for step, text in self.items()
        }


class Caller:
    """Speaks one era to one server, and takes down all answers."""

    def __init__(self, url):
        self.url = url
        self.era = self.session = self.peer = None
        self.steps = Transcript()

    def open(self, method="POST", message=None, path="/mcp", **fields):
        """Sends a request. A field given as None is left out, one given as a list is repeated."""
        if isinstance(message, dict):
            message = json.dumps(message, ensure_ascii=False).encode()
        fields = {"accept": BOTH, "mcp-protocol-version": self.era, "mcp-session-id": self.session} | {
            name.replace("_", "-"): value for name, value in fields.items()
        }
        if message is not None:
            fields.setdefault("content-type", "application/json")
        headers = []
        for name, value in fields.items():
            headers += [(name, each) for each in (value if isinstance(value, list) else [value]) if each is not None]
        return Stream(self.url, method, path, headers, message)

    def call(self, step, rpc, params=None, **fields):
        """One POST, to its end; the server does what it is asked."""
        self.steps[step] = answer = self.ask(rpc, params, id=step, **fields).head().rest()
        assert answer.status in (200, 202) and b'"error":' not in answer.seen, f"{step}: {answer}"
        return answer

    def refused(self, step, rpc, params=None, **fields):
        """One POST; the server does not do it."""
        self.steps[step] = answer = self.ask(rpc, params, id=step, **fields).head().rest()
        assert answer.status >= 400 or b'"error":' in answer.seen, f"{step}: {answer}"

    def ask(self, rpc, params=None, id=None, **fields):
        message = {"jsonrpc": "2.0", "method": rpc, "params": self.params(params or {})}
        if not rpc.startswith("notifications/"):
            message["id"] = id
        return self.open(message=message, **self.mirror(rpc, params or {}) | fields)

    def plainly(self, step, method="POST", message=None, **fields):
        self.steps[step] = answer = self.open(method, message, **fields).head().rest()
        return answer

    def params(self, params):
        if self.era < "2026":
            return params
        client = {"name": "raw", "version": "1"}
        own = {"protocolVersion": self.era, "clientInfo": client, "clientCapabilities": {}}
        meta = {META + name: value for name, value in own.items()}
        return params | {"_meta": meta | params.get("_meta", {})}

    def mirror(self, rpc, params):
        """The fields that repeat the body since 2026-07-28."""
        if self.era < "2026":
            return {}
        name = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}.get(rpc)
        return {"mcp-method": rpc} | ({"mcp-name": params[name]} if name else {})

    def tool(self, tool, arguments={}, **fields):
        """The text that a tool answers, not taken down."""
        answer = self.ask("tools/call", {"name": tool, "arguments": arguments}, id="aside", **fields).head().rest()
        data = re.findall(r'^(?:data: )?(\{.*"result".*\})\r?$', answer.seen.decode(), re.MULTILINE)
        assert data, str(answer)
        return json.loads(data[-1])["result"]["content"][0]["text"]

    def state(self):
        return json.loads(self.tool("state"))


def progress(name, **arguments):
    return {"name": name, "arguments": arguments, "_meta": {"progressToken": f"of {name}"}}


def initialize(caller):
    capabilities = {"sampling": {}, "elicitation": {}}
    client = {"name": "raw", "version": "1"}
    params = {"protocolVersion": caller.era, "capabilities": capabilities, "clientInfo": client}
    caller.session = caller.call("initialize", "initialize", params).field("mcp-session-id")
    assert caller.session
    caller.call("initialized", "notifications/initialized")


def rejections(caller):
    """What a server refuses by the fields or the bytes of a request."""
    caller.plainly("no JSON", message=b"{ not json")
    caller.plainly("wrong content type", message=b"{}", content_type="text/plain")
    caller.refused("wrong accept", "ping", accept="text/html")
    caller.refused("no accept", "ping", accept=None)
    caller.refused("unknown method", "no/such/method")
    caller.refused("unknown version", "ping", mcp_protocol_version="1999-01-01")
    caller.plainly("PUT", "PUT", b"{}")
    caller.plainly("OPTIONS", "OPTIONS", origin="http://localhost", access_control_request_method="POST")
    caller.plainly("another path", "GET", path="/other/a;b?c=1&d=%20")
    caller.plainly("an escaped path", "GET", path="/other/%2Fa%7Eb//%c3%a4%3A?c=1")


def get_stream(caller, step, subscribe, trigger):
    """From server to client on the GET stream: its head is there before any event; a second one is refused until
    the server has noticed that the first is gone, and not for longer."""
    first = caller.open("GET", accept="text/event-stream").head()
    assert first.status == 200, str(first)
    caller.call(f"{step}: subscribe", "resources/subscribe", subscribe)
    trigger()
    caller.steps[f"{step}: events"] = first.until(rb"notifications/resources/updated.*\n\r?\n")
    caller.plainly(f"{step}: a second one", "GET", accept="text/event-stream")
    first.close()

    def again():
        stream = caller.open("GET", accept="text/event-stream").head()
        if stream.status == 200:
            return stream
        stream.rest()

    caller.steps[f"{step}: after the first is gone"] = last = eventually("the server notices", again)
    return last


def everything(caller):
    caller.era = "2025-11-25"
    call = caller.call
    initialize(caller)
    call("ping", "ping")
    call("tools/list", "tools/list")
    call("echo", "tools/call", {"name": "echo", "arguments": {"message": WIDE}})
    call("an image", "tools/call", {"name": "get-tiny-image", "arguments": {}})
    call("structured", "tools/call", {"name": "get-structured-content", "arguments": {"location": "New York"}})
    call("invalid arguments", "tools/call", {"name": "get-sum", "arguments": {"a": "x"}})
    call("unknown tool", "tools/call", {"name": "no-such-tool"})
    long = call("progress", "tools/call", progress("trigger-long-running-operation", duration=0.2, steps=4))
    event = re.search(rb"id: (\S+)", long.seen)[1].decode()
    resumed = caller.open("GET", accept="text/event-stream", last_event_id=event).head()
    caller.steps["resumed"] = resumed.until(rb'"id":"progress".*\n\n')
    resumed.close()
    call("resources/list", "resources/list")
    call("resources/templates/list", "resources/templates/list")
    call("resources/read", "resources/read", {"uri": "demo://resource/static/document/features.md"})
    call("prompts/list", "prompts/list")
    call("prompts/get", "prompts/get", {"name": "args-prompt", "arguments": {"city": "Zürich"}})
    ref = {"type": "ref/prompt", "name": "completable-prompt"}
    call("complete", "completion/complete", {"ref": ref, "argument": {"name": "department", "value": "S"}})
    call("level", "logging/setLevel", {"level": "info"})

    asking = caller.ask("tools/call", {"name": "trigger-sampling-request", "arguments": {"prompt": "?"}}, id="sampling")
    asking.head().until(rb"sampling/createMessage.*\n\n")
    asked = json.loads(re.search(rb"data: (\{.*createMessage.*)", asking.seen)[1])
    result = {"role": "assistant", "model": "m", "content": {"type": "text", "text": "!"}}
    caller.plainly("the client answers", message={"jsonrpc": "2.0", "id": asked["id"], "result": result})
    caller.steps["sampling"] = asking.rest()

    def toggle(step):
        return call(step, "tools/call", {"name": "toggle-subscriber-updates", "arguments": {}})

    uri = {"uri": "demo://resource/static/document/features.md"}
    last = get_stream(caller, "GET", uri, lambda: toggle("updates on"))
    toggle("updates off")
    rejections(caller)
    caller.plainly("no session", "GET", mcp_session_id=None)
    caller.plainly("DELETE", "DELETE")
    assert caller.steps["DELETE"].startswith("200"), caller.steps["DELETE"]
    caller.steps["the GET stream ends with it"] = last.rest()


def legacy(caller):
    caller.era = "2025-11-25"
    initialize(caller)
    caller.call("ping", "ping")
    common(caller)
    caller.call("level", "logging/setLevel", {"level": "info"})

    cancelled = caller.ask("tools/call", progress("hang", tag="notified"), id="to cancel").head()
    cancelled.until(rb"notifications/progress.*\n\r?\n")
    caller.call("cancel", "notifications/cancelled", {"requestId": "to cancel"})
    caller.steps["cancelled"] = cancelled.rest()
    eventually("cancelled by notification", lambda: "notified" in caller.state()["cancelled"])

    uri = {"uri": "test://watched-resource"}
    last = get_stream(caller, "GET", uri, lambda: caller.tool("touch", uri))
    rejections(caller)
    caller.refused("no session", "ping", mcp_session_id=None)
    caller.refused("foreign origin", "ping", origin="http://evil.example")
    caller.plainly("DELETE", "DELETE")
    assert caller.steps["DELETE"].startswith("200"), caller.steps["DELETE"]
    caller.steps["the GET stream ends with it"] = last.rest()


def modern(caller):
    caller.era = "2026-07-28"
    call = caller.call
    call("discover", "server/discover")
    common(caller)
    caller.refused("header mismatch", "tools/list", mcp_method="tools/call")
    caller.refused("name mismatch", "tools/call", {"name": "state"}, mcp_name="echo")
    caller.refused("name twice", "tools/call", {"name": "state"}, mcp_name=["state", "state"])
    caller.refused("param mismatch", "tools/call", {"name": "echo", "arguments": {"text": "a"}}, mcp_param_text="b")
    call("notification", "notifications/whatever")
    rejections(caller)
    caller.plainly("GET", "GET")
    caller.plainly("DELETE", "DELETE")

    # Closing a stream is the cancellation: after an event, before the head, and of a subscription.
    stream = caller.ask("tools/call", progress("hang", tag="streaming"), id="hang").head()
    caller.steps["hang"] = stream.until(rb"notifications/progress.*\n\r?\n")
    assert "streaming" in caller.state()["running"]
    stream.close()
    eventually("cancelled by closing", lambda: "streaming" in caller.state()["cancelled"])
    silent = caller.ask("tools/call", progress("hang", tag="silent", quiet=True), id="hang")
    eventually("it runs", lambda: "silent" in caller.state()["running"])
    silent.close()
    eventually("cancelled before the head", lambda: "silent" in caller.state()["cancelled"])

    uri = "test://watched-resource"
    listening = caller.ask("subscriptions/listen", {"notifications": {"resourceSubscriptions": [uri]}}, id="listen")
    listening.head().until(rb"acknowledged.*\n\r?\n")
    caller.tool("touch", {"uri": uri})
    caller.steps["listen"] = listening.until(rb"resources/updated.*\n\r?\n")
    listening.close()


def common(caller):
    """What `server.py` has in both eras."""
    call = caller.call
    call("tools/list", "tools/list")
    arguments = {"text": "plain", "more": WIDE}
    call("echo", "tools/call", {"name": "echo", "arguments": arguments}, mcp_param_text="plain")
    for name in ("test_image_content", "test_multiple_content_types", "test_error_handling", "no_such_tool"):
        call(name, "tools/call", {"name": name, "arguments": {}})
    call("progress", "tools/call", progress("test_tool_with_progress"))
    call("resources/list", "resources/list")
    call("resources/templates/list", "resources/templates/list")
    for uri in ("test://static-text", "test://static-binary", "test://template/123/data"):
        call(uri, "resources/read", {"uri": uri})
    call("prompts/list", "prompts/list")
    odd = {"x-odd": ["b", "a", "b"], "x-latin": "caf\xe9", "x-empty": "", "x-spaces": "a  b"}
    arrived = json.loads(caller.tool("headers", **odd, Authorization="Bearer x", tower_seal_peer="somebody else"))
    lines = [f"{name}: {value}" for name, value in arrived if name not in OWN | CHANGED]
    caller.steps["the fields that the server sees"] = "\n".join(sorted(lines, key=lambda line: line.split(":")[0]))
    caller.peer = [value for name, value in arrived if name == "tower-seal-peer"]
