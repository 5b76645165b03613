"""An MCP server on the Python SDK, for both eras, on a loopback port of the system's choice.

It has what the conformance suite asks of a server (`test_*`, `test://*`: names and texts are the suite's), and
the tools with which `raw.py` and `client.py` look at what arrives: `echo`, `headers`, `hang`, `state`, `touch`.
"""

import json
import socket
import warnings

import anyio
import mcp_types as types
import uvicorn
from mcp.server.lowlevel.server import Server
from mcp.server.streamable_http import EventMessage, EventStore
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated

MODERN = "2026-07-28"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="
IMAGE = {"type": "image", "data": PNG, "mimeType": "image/png"}
AUDIO = {"type": "audio", "data": WAV, "mimeType": "audio/wav"}
STRING = {"type": "string"}

bus = InMemorySubscriptionBus()
running: list[str] = []
cancelled: list[str] = []


def text(value):
    return {"type": "text", "text": value if isinstance(value, str) else json.dumps(value)}


def resource(uri, body, mime="text/plain"):
    return {"type": "resource", "resource": {"uri": uri, "mimeType": mime, "text": body}}


def schema(**properties):
    return {"type": "object", "properties": properties, "required": list(properties)}


def a(model):
    """Makes the SDK's type of what a handler returns as JSON: that adds what only one of the eras has."""

    def wrap(handler):
        async def wrapped(ctx, params):
            return model.model_validate(await handler(ctx, params))

        return wrapped

    return wrap


# Tools: what the other files use.


async def echo(ctx, args):
    return [text(args["text"] + args.get("more", ""))]


async def headers(ctx, args):
    """The fields of the request, as they arrived."""
    return [text([[name.decode("latin-1"), value.decode("latin-1")] for name, value in ctx.request.headers.raw])]


async def hang(ctx, args):
    """Runs until it is cancelled, and records that."""
    running.append(args["tag"])
    try:
        if not args.get("quiet"):
            await ctx.session.report_progress(1, 2, "hanging")
        await anyio.sleep(60)
        return [text("nobody cancelled me")]
    except anyio.get_cancelled_exc_class():
        cancelled.append(args["tag"])
        raise
    finally:
        running.remove(args["tag"])


async def state(ctx, args):
    return [text({"running": running, "cancelled": cancelled})]


async def touch(ctx, args):
    """Tells the subscribers of a resource: on the GET stream, or since 2026-07-28 on listen streams."""
    if ctx.protocol_version == MODERN:
        await bus.publish(ResourceUpdated(uri=args["uri"]))
    else:
        await ctx.session.send_resource_updated(args["uri"])
    return [text("touched")]


# Tools: what the conformance suite uses.


def always(*content):
    async def tool(ctx, args):
        return list(content)

    return tool


async def logging(ctx, args):
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.session.send_log_message("info", line, related_request_id=ctx.request_id)
    return [text("logged")]


async def progress(ctx, args):
    for done in (0, 50, 100):
        await ctx.session.report_progress(done, 100, f"{done} of 100")
    return [text("done")]


async def failing(ctx, args):
    raise ValueError("This tool intentionally returns an error for testing")


async def sampling(ctx, args):
    message = types.SamplingMessage(role="user", content=types.TextContent(text=args["prompt"]))
    result = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
    return [text(f"LLM response: {result.content.text}")]


def eliciting(asked):
    async def tool(ctx, args):
        message = args.get("message", "Please fill in the form")
        result = await ctx.session.elicit_form(message, asked, related_request_id=ctx.request_id)
        return [text(f"Elicitation completed: action={result.action}, content={json.dumps(result.content)}")]

    return tool


async def reconnection(ctx, args):
    """Closes its own stream, so that the client has to come back for the result."""
    if ctx.close_sse_stream:
        await ctx.close_sse_stream()
    return [text("Reconnection test completed")]


DEFAULTS = {
    "name": STRING | {"default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": STRING | {"enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}
OPTIONS = {"enum": ["option1", "option2", "option3"]}
CHOICES = [{"const": f"value{n}", "title": f"Choice {n}"} for n in (1, 2, 3)]
ENUMS = {
    "untitledSingle": STRING | OPTIONS,
    "titledSingle": STRING | {"oneOf": CHOICES},
    "legacyEnum": STRING | {"enum": ["opt1", "opt2", "opt3"], "enumNames": ["One", "Two", "Three"]},
    "untitledMulti": {"type": "array", "items": STRING | OPTIONS},
    "titledMulti": {"type": "array", "items": {"anyOf": CHOICES}},
}
JSON_SCHEMA_2020 = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"type": "object", "properties": {"street": STRING, "city": STRING}}},
    "properties": {"name": STRING, "address": {"$ref": "#/$defs/address"}},
    "additionalProperties": False,
}
TOOLS = {
    # The annotation makes modern clients repeat the argument in the field `Mcp-Param-Text`.
    "echo": (echo, {"type": "object", "properties": {"text": STRING | {"x-mcp-header": "Text"}, "more": STRING}}),
    "headers": (headers, schema()),
    "hang": (hang, {"type": "object", "properties": {"tag": STRING, "quiet": {"type": "boolean"}}}),
    "state": (state, schema()),
    "touch": (touch, schema(uri=STRING)),
    "test_simple_text": (always(text("This is a simple text response for testing.")), schema()),
    "test_image_content": (always(IMAGE), schema()),
    "test_audio_content": (always(AUDIO), schema()),
    "test_embedded_resource": (always(resource("test://embedded-resource", "Embedded.")), schema()),
    "test_multiple_content_types": (
        always(text("Multiple:"), IMAGE, resource("test://mixed-content-resource", "{}", "application/json")),
        schema(),
    ),
    "test_tool_with_logging": (logging, schema()),
    "test_tool_with_progress": (progress, schema()),
    "test_error_handling": (failing, schema()),
    "test_sampling": (sampling, schema(prompt=STRING)),
    "test_elicitation": (eliciting(schema(username=STRING, email=STRING)), schema(message=STRING)),
    "test_elicitation_sep1034_defaults": (eliciting(schema(**DEFAULTS)), schema()),
    "test_elicitation_sep1330_enums": (eliciting(schema(**ENUMS)), schema()),
    "test_reconnection": (reconnection, schema()),
    "json_schema_2020_12_tool": (always(text("ok")), JSON_SCHEMA_2020),
}


@a(types.ListToolsResult)
async def list_tools(ctx, params):
    return {"tools": [{"name": n, "description": n, "inputSchema": s} for n, (_, s) in TOOLS.items()]}


@a(types.CallToolResult)
async def call_tool(ctx, params):
    try:
        return {"content": await TOOLS[params.name][0](ctx, params.arguments or {})}
    except (KeyError, ValueError) as error:
        return {"content": [text(str(error))], "isError": True}


# Resources, prompts and the rest.

RESOURCES = {
    "test://static-text": {"mimeType": "text/plain", "text": "This is the content of the static text resource."},
    "test://static-binary": {"mimeType": "image/png", "blob": PNG},
    "test://watched-resource": {"mimeType": "text/plain", "text": "Watch me."},
}
PROMPTS = {
    "test_simple_prompt": [],
    "test_prompt_with_arguments": ["arg1", "arg2"],
    "test_prompt_with_embedded_resource": ["resourceUri"],
    "test_prompt_with_image": [],
}


@a(types.ListResourcesResult)
async def list_resources(ctx, params):
    return {"resources": [{"uri": u, "name": u, "mimeType": r["mimeType"]} for u, r in RESOURCES.items()]}


@a(types.ListResourceTemplatesResult)
async def list_templates(ctx, params):
    return {"resourceTemplates": [{"uriTemplate": "test://template/{id}/data", "name": "template"}]}


@a(types.ReadResourceResult)
async def read_resource(ctx, params):
    uri = str(params.uri)
    if uri in RESOURCES:
        return {"contents": [{"uri": uri} | RESOURCES[uri]]}
    body = json.dumps({"id": uri.split("/")[3], "templateTest": True})
    return {"contents": [{"uri": uri, "mimeType": "application/json", "text": body}]}


@a(types.ListPromptsResult)
async def list_prompts(ctx, params):
    return {
        "prompts": [
            {"name": n, "description": n, "arguments": [{"name": a, "required": True} for a in arguments]}
            for n, arguments in PROMPTS.items()
        ]
    }


@a(types.GetPromptResult)
async def get_prompt(ctx, params):
    args = params.arguments or {}
    content = {
        "test_simple_prompt": [text("This is a simple prompt for testing.")],
        "test_prompt_with_arguments": [text(f"Prompt with arguments: {args}")],
        "test_prompt_with_embedded_resource": [resource(args.get("resourceUri", ""), "Embedded.")],
        "test_prompt_with_image": [IMAGE, text("Please analyze the image above.")],
    }[params.name]
    return {"messages": [{"role": "user", "content": item} for item in content]}


@a(types.CompleteResult)
async def complete(ctx, params):
    return {"completion": {"values": ["paris", "park"], "total": 2, "hasMore": False}}


@a(types.EmptyResult)
async def accept(ctx, params):
    return {}


class Events(EventStore):
    """Keeps all events, for clients that come back with `Last-Event-ID`."""

    def __init__(self):
        self.events = []

    async def store_event(self, stream_id, message):
        self.events.append((stream_id, message))
        return str(len(self.events))

    async def replay_events_after(self, last_event_id, send_callback):
        last = int(last_event_id)
        stream = self.events[last - 1][0]
        for number, (of, message) in enumerate(self.events[last:], last + 1):
            if of == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


def main():
    warnings.simplefilter("ignore")  # of logging and sampling, which 2026-07-28 deprecates
    server = Server(
        "interop",
        version="1.0.0",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_subscribe_resource=accept,
        on_unsubscribe_resource=accept,
        on_subscriptions_listen=ListenHandler(bus),
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
        on_set_logging_level=accept,
    )
    app = server.streamable_http_app(event_store=Events(), retry_interval=100)
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main()
