"""The Python SDK's client, which knows nothing of the seal: what it gets, as JSON."""

import asyncio
import contextlib
import json
import logging
import warnings

import anyio
from mcp import Client, MCPError, StdioServerParameters, stdio_client, types

import raw
from stack import BOUND, HERE

WATCHED = {"everything": "demo://resource/static/document/features.md", "python": "test://watched-resource"}
GRAPH = "memory://knowledge-graph"
CHANGES = ("create_", "add_", "delete_")
CALLS = json.loads((HERE / "calls.json").read_text().replace('"WIDE"', json.dumps(raw.WIDE)))


def use(way, server, mode):
    """Visits `server` in one mode of the client: "legacy" is 2025-11-25, "auto" asks for 2026-07-28 first."""
    return run(Visit(way, server).all(f"{way.url}/mcp", mode))


def program(way, server, mode):
    """The same over stdin and stdout, where the way has a program for that."""
    return run(Visit(way, server).all(way.program or f"{way.url}/mcp", mode))


def run(visit):
    warnings.simplefilter("ignore")  # of what 2026-07-28 deprecates
    logging.getLogger("mcp").addHandler(logging.NullHandler())  # of events that still came when it had gone
    return asyncio.run(asyncio.wait_for(visit, 2 * BOUND))


@contextlib.asynccontextmanager
async def started(way, mode="auto", **callbacks):
    """A client, with the program of `way` as its child."""
    argv, env = way.program.argv, way.program.env
    server = StdioServerParameters(command=argv[0], args=argv[1:], env=env)
    with (way.folder / "program.log").open("a") as log:
        async with Client(stdio_client(server, errlog=log), mode=mode, cache=None, **callbacks) as client:
            yield client


class Visit:
    """What a client gets, by step, and what else held; it answers what the server asks it, too."""

    def __init__(self, way, server):
        self.way, self.server = way, server
        self.root = way.program.root if way.program else way.folder
        self.seen, self.checks, self.heard, self.notices = {}, {}, [], []
        self.told, self.logged = anyio.Event(), anyio.Event()

    async def all(self, target, mode):
        callbacks = {
            "message_handler": self.on_message,
            "sampling_callback": self.on_sampling,
            "elicitation_callback": self.on_elicitation,
            "list_roots_callback": self.on_roots,
            "logging_callback": self.on_log,
        }
        if target == self.way.program:
            there = started(self.way, mode, **callbacks)
        else:
            there = Client(target, mode=mode, cache=None, **callbacks)
        visits = {"everything": everything, "python": python, "filesystem": filesystem, "memory": memory}
        async with there as client:
            await self.begin(client)
            await visits[self.server](client, self)
        return {step: str(value) for step, value in self.seen.items()}, self.checks

    async def begin(self, client):
        seen = self.seen
        seen["version"] = client.protocol_version
        seen["server"] = plain(client.server_info)
        seen["capabilities"] = plain(client.server_capabilities)
        seen["tools"] = plain(await client.list_tools())
        if client.server_capabilities.resources:
            seen["resources"] = plain(await client.list_resources())
            seen["templates"] = plain(await client.list_resource_templates())
        if client.server_capabilities.prompts:
            seen["prompts"] = plain(await client.list_prompts())

    async def slow(self, client, tool, arguments):
        self.seen["slow"] = plain(await client.call_tool(tool, arguments, progress_callback=self.on_progress))
        self.seen["progress"] = self.heard

    async def calls(self, client):
        """What `calls.json` has for the server. Where something is subscribed to, each change is told."""
        for number, (tool, arguments) in enumerate(CALLS[self.server]):
            self.told = anyio.Event()
            answer = await client.call_tool(tool, arguments)
            self.seen[f"{number} {tool}"] = plain(answer)
            if self.server == "memory" and tool.startswith(CHANGES) and not answer.is_error:
                await self.told.wait()

    async def on_message(self, message):
        if isinstance(message, types.ResourceUpdatedNotification):
            self.seen["told"] = message.params.uri
            self.told.set()

    async def on_progress(self, done, total, message):
        self.heard.append([done, total, message])

    async def on_sampling(self, context, params):
        self.seen["sampling"] = plain(params)
        content = types.TextContent(text="sampled, überall")
        return types.CreateMessageResult(role="assistant", content=content, model="none", stop_reason="endTurn")

    async def on_elicitation(self, context, params):
        self.seen["elicitation"] = plain(params)
        return types.ElicitResult(action="accept", content={"name": "Zoë", "check": True, "integer": 7})

    async def on_roots(self, context):
        return types.ListRootsResult(roots=[types.Root(uri=self.root.as_uri(), name="root")])

    async def on_log(self, params):
        if params.logger == "tower-seal":
            self.notices.append(params.data)
        # Some are random. The server names its session, too.
        if str(params.data).startswith("Received Unsubscribe"):
            self.seen["log"] = [params.level, params.data.partition(" from session")[0].strip()]
            self.logged.set()


async def everything(client, visit):
    seen, uri = visit.seen, WATCHED["everything"]
    seen["read"] = plain(await client.read_resource(uri))
    await visit.slow(client, "trigger-long-running-operation", {"duration": 0.2, "steps": 4})
    seen["echo"] = plain(await client.call_tool("echo", {"message": "to and fro"}))
    seen["wide"] = plain(await client.call_tool("echo", {"message": raw.WIDE}))
    seen["image"] = plain(await client.call_tool("get-tiny-image"))
    seen["structured"] = plain(await client.call_tool("get-structured-content", {"location": "Chicago"}))
    seen["prompt"] = plain(await client.get_prompt("args-prompt", {"city": "Zürich"}))
    asking = {
        "trigger-sampling-request": {"prompt": "to and fro", "maxTokens": 9},
        "trigger-elicitation-request": {},
        "get-roots-list": {},
    }
    for tool, arguments in asking.items():
        seen[tool] = plain(await client.call_tool(tool, arguments))
    await client.set_logging_level("debug")
    # The client's GET stream may open later than its first calls: so again, until something comes.
    await client.subscribe_resource(uri)
    while not visit.told.is_set():
        await client.call_tool("toggle-subscriber-updates")
        with anyio.move_on_after(0.2):
            await visit.told.wait()
    await client.unsubscribe_resource(uri)
    await visit.logged.wait()


async def python(client, visit):
    seen, told = visit.seen, visit.told
    modern = client.protocol_version > "2026"
    seen["read"] = plain(await client.read_resource(WATCHED["python"]))
    await visit.slow(client, "test_tool_with_progress", {})
    seen["echo"] = plain(await client.call_tool("echo", {"text": "to and fro"}))
    seen["prompt"] = plain(await client.get_prompt("test_prompt_with_arguments", {"arg1": "a", "arg2": "b"}))
    uri = WATCHED["python"]
    if modern:
        async with client.listen(resource_subscriptions=[uri]) as events:
            await client.call_tool("touch", {"uri": uri})
            async for event in events:
                seen["event"] = event
                break
    else:
        await client.subscribe_resource(uri)
        while not told.is_set():
            await client.call_tool("touch", {"uri": uri})
            with anyio.move_on_after(0.2):
                await told.wait()

    # Cancelled while it streams: the server's tool has to notice, in either era.
    async with anyio.create_task_group() as group:

        async def cancel(*_):
            group.cancel_scope.cancel()

        await client.call_tool("hang", {"tag": "client"}, progress_callback=cancel)
    state = {}
    while "client" not in state.get("cancelled", ()):
        state = json.loads((await client.call_tool("state")).content[0].text)
    seen["cancelled"] = state


async def filesystem(client, visit):
    visit.seen["roots"] = plain(await shown(client, visit))
    await visit.calls(client)
    if visit.way.serve:
        # Twice 1 MiB do not go into one record: that answer is an error, and the child goes on.
        (visit.root / "large.txt").write_text("first\n" + "x" * 2**20)
        try:
            await client.call_tool("read_text_file", {"path": "large.txt"})
            refused = "it has come"
        except MCPError as error:
            refused = str(error)
        visit.checks[f"an answer that is too large is an error: {refused}"] = "at most 1 MiB" in refused
        visit.checks[f"and nothing is told of an end: {visit.notices}"] = not visit.notices
        await shown(client, visit)
        again = await client.call_tool("read_text_file", {"path": "large.txt", "head": 1})
        visit.checks["the next call has its answer"] = not again.is_error
        (visit.root / "large.txt").unlink()


async def shown(client, visit):
    """The server asks for the client's roots, and from then on they are all that it lets anybody see."""
    while True:
        listed = await client.call_tool("list_allowed_directories")
        if str(visit.root) in listed.content[0].text:
            return listed


async def memory(client, visit):
    """Each change is told to whoever has subscribed to the graph."""
    await client.subscribe_resource(GRAPH)
    await visit.calls(client)
    visit.seen["graph"] = plain(await client.read_resource(GRAPH))
    async with started(visit.way) as another:
        visit.seen["graph of another child"] = plain(await another.call_tool("read_graph"))


def plain(model):
    return model.model_dump(mode="json", exclude_none=True)
