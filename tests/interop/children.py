"""Each client has a child of its own, which ends with it; and when a child ends, its client goes on with another."""

import asyncio
import json
import os
from asyncio.subprocess import DEVNULL, PIPE

import anyio
from mcp import MCPError

import stack
from client import plain, run, started

HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
}
# A resource of the child that it was made in, and of no other.
MADE = {"name": "a.gz", "data": "data:text/plain,made%20by%20one", "outputType": "resourceLink"}
URI = "demo://resource/session/a.gz"


def use(way):
    return run(visit(way))


async def visit(way):
    seen, checks = {}, {}
    async with started(way) as one:
        async with started(way) as two:
            if way.serve:
                checks["there are two children for two clients"] = len(stack.children(way.serve)) == 2
            seen["made by one"] = plain(await one.call_tool("gzip-file-as-resource", MADE))
            seen["read by one"] = plain(await one.read_resource(URI))
            seen["read by two"] = await failure(two.read_resource(URI))
            echoes = (client.call_tool("echo", {"message": f"{n}"}) for n in range(50) for client in (one, two))
            seen["both at once"] = [plain(echo) for echo in await asyncio.gather(*echoes)]
        if way.serve:
            await eventually("the child of the client that has gone is gone", way, 1)
        seen["read by one, alone"] = plain(await one.read_resource(URI))
        if way.serve:
            await lose_child(way, one, checks)
    if way.serve:
        await eventually("both are gone", way, 0)
        await lose_client(way)
    return {step: str(value) for step, value in seen.items()}, checks


async def lose_child(way, client, checks):
    """While it works."""
    [child] = stack.children(way.serve)

    async def kill(*_):
        if child in stack.children(way.serve):
            os.kill(child, 9)

    long = {"duration": 600, "steps": 6000}
    lost = await failure(client.call_tool("trigger-long-running-operation", long, progress_callback=kill))
    checks[f"a call whose child was killed has an error that says so: {lost}"] = "connection was lost" in lost
    checks["which is about an outcome_unknown"] = "outcome_unknown" in lost
    answer = await client.call_tool("echo", {"message": "anew"})
    checks["the next call has an answer"] = answer.content[0].text == "Echo: anew"
    checks["that of another child"] = len(stack.children(way.serve) - {child}) == 1


async def lose_client(way):
    """Which is killed, and so says nothing."""
    process = await asyncio.create_subprocess_exec(*way.program.argv, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
    try:
        process.stdin.write(json.dumps(HELLO).encode() + b"\n")
        await eventually("it has a child", way, 1)
    finally:
        process.kill()
        await process.wait()
    await eventually("the child of a client that was killed is gone", way, 0)


async def failure(call):
    """What the client gets in place of an answer."""
    try:
        return f"an answer: {plain(await call)}"
    except MCPError as error:
        return str(plain(error.error))


async def eventually(what, way, number):
    await anyio.to_thread.run_sync(stack.eventually, what, lambda: len(stack.children(way.serve)) == number)
