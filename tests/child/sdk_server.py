"""A server of the real Python SDK (of either major version) that says which endpoint it uses."""

import asyncio
import os

try:
    from mcp.server.mcpserver import Context, MCPServer as Server
except ImportError:
    from mcp.server.fastmcp import Context, FastMCP as Server

from mcp.types import ToolAnnotations

server = Server("sdk")


@server.tool(annotations=ToolAnnotations(readOnlyHint=True))
def where() -> str:
    """Which endpoint is in use."""
    return os.environ.get("MCP_FAILOVER_SEARCH_ENDPOINT", "none")


@server.tool()
async def slow(steps: int, ctx: Context) -> str:
    """Takes its time and tells how far it is."""
    for step in range(steps):
        await ctx.report_progress(step + 1, steps)
        await asyncio.sleep(0.1)
    return os.environ.get("MCP_FAILOVER_SEARCH_ENDPOINT", "none")


server.run("stdio")
