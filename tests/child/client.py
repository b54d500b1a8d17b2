"""A client of the real Python SDK (of either major version) that calls a tool again and again.

    client.py OPTIONS -- COMMAND...

OPTIONS is JSON: mode ("legacy", "auto" or a version), calls, callers, tool, arguments,
until (a path: nobody stops before there is such a file), and
optionally long {tool, arguments}: one call with progress beside the others. The last line that it
prints is JSON: what it saw.
"""

import asyncio
import contextlib
import json
import os
import sys
import time

from mcp import StdioServerParameters


@contextlib.asynccontextmanager
async def connect(parameters, mode):
    try:
        from mcp import Client
    except ImportError:
        from mcp import ClientSession
        from mcp.client.stdio import stdio_client

        async with stdio_client(parameters) as (read, write):
            async with ClientSession(read, write) as session:
                await session.initialize()
                yield session
    else:
        async with Client(parameters, mode=mode) as client:
            yield client


def is_error(result):
    return bool(getattr(result, "isError", getattr(result, "is_error", False)))


def text(result):
    return "".join(getattr(part, "text", "") for part in result.content)


async def main(options, command):
    parameters = StdioServerParameters(
        command=command[0], args=command[1:], env=dict(os.environ)
    )
    seen = {"calls": 0, "errors": [], "worst_ms": 0.0, "texts": {}, "tools": 0}

    async def caller(client):
        while seen["calls"] < options["calls"] or not os.path.exists(options["until"]):
            seen["calls"] += 1
            began = time.monotonic()
            try:
                if options["tool"]:
                    result = await client.call_tool(options["tool"], options["arguments"])
                    if is_error(result):
                        raise RuntimeError(text(result))
                    said = text(result)[:80]
                    seen["texts"][said] = seen["texts"].get(said, 0) + 1
                elif len((await client.list_tools()).tools) != seen["tools"]:
                    raise RuntimeError("other tools")
            except Exception as error:  # noqa: BLE001
                seen["errors"].append(repr(error)[:200])
            seen["worst_ms"] = max(seen["worst_ms"], 1000 * (time.monotonic() - began))
            await asyncio.sleep(options.get("pause", 0.0))

    async def long(client):
        steps = []

        async def progress(value, total, message):
            steps.append(value)

        began = time.monotonic()
        wanted = options["long"]
        try:
            result = await client.call_tool(
                wanted["tool"], wanted["arguments"], progress_callback=progress
            )
            if is_error(result):
                raise RuntimeError(text(result))
            seen["long"] = {"text": text(result)[:80], "progress": steps}
        except Exception as error:  # noqa: BLE001
            seen["errors"].append("long: " + repr(error)[:200])
        seen["long_s"] = time.monotonic() - began

    async with connect(parameters, options["mode"]) as client:
        seen["tools"] = len((await client.list_tools()).tools)
        print("connected", flush=True)
        tasks = [caller(client) for _ in range(options["callers"])]
        if "long" in options:
            tasks.append(long(client))
        await asyncio.gather(*tasks)
        seen["tools_after"] = len((await client.list_tools()).tools)
    print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    at = sys.argv.index("--")
    asyncio.run(main(json.loads(sys.argv[1]), sys.argv[at + 1 :]))
