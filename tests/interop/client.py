"""The Python SDK's client, which knows nothing of the seal: what it gets, as JSON."""

import asyncio
import json
import logging
import warnings

import anyio
from mcp import Client, types

from stack import BOUND

WATCHED = {"everything": "demo://resource/static/document/features.md", "python": "test://watched-resource"}


def use(way, server, mode):
    """Visits `server` in one mode of the client: "legacy" is 2025-11-25, "auto" asks for 2026-07-28 first."""
    warnings.simplefilter("ignore")  # of what 2026-07-28 deprecates
    logging.getLogger("mcp").addHandler(logging.NullHandler())  # of events that still came when it had gone
    return asyncio.run(asyncio.wait_for(visit(way.url + "/mcp", server, mode), 2 * BOUND)), {}


async def visit(url, server, mode):
    seen, heard, told = {}, [], anyio.Event()

    async def on_message(message):
        if isinstance(message, types.ResourceUpdatedNotification):
            seen["told"] = message.params.uri
            told.set()

    async def on_progress(done, total, message):
        heard.append([done, total, message])

    async with Client(url, mode=mode, message_handler=on_message, cache=None) as client:
        seen["version"] = client.protocol_version
        seen["server"] = plain(client.server_info)
        seen["capabilities"] = plain(client.server_capabilities)
        seen["tools"] = plain(await client.list_tools())
        seen["resources"] = plain(await client.list_resources())
        seen["templates"] = plain(await client.list_resource_templates())
        seen["prompts"] = plain(await client.list_prompts())
        seen["read"] = plain(await client.read_resource(WATCHED[server]))
        slow = {
            "everything": ("trigger-long-running-operation", {"duration": 0.2, "steps": 4}),
            "python": ("test_tool_with_progress", {}),
        }
        seen["slow"] = plain(await client.call_tool(*slow[server], progress_callback=on_progress))
        seen["progress"] = heard
        if server == "everything":
            await everything(client, seen, told)
        else:
            await python(client, seen, told)
    return {step: str(value) for step, value in seen.items()}


async def everything(client, seen, told):
    seen["echo"] = plain(await client.call_tool("echo", {"message": "to and fro"}))
    seen["prompt"] = plain(await client.get_prompt("args-prompt", {"city": "Zürich"}))
    # The client's GET stream may open later than its first calls: so again, until something comes.
    await client.subscribe_resource(WATCHED["everything"])
    while not told.is_set():
        await client.call_tool("toggle-subscriber-updates")
        with anyio.move_on_after(0.2):
            await told.wait()
    await client.unsubscribe_resource(WATCHED["everything"])


async def python(client, seen, told):
    modern = client.protocol_version > "2026"
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


def plain(model):
    return model.model_dump(mode="json", exclude_none=True)
