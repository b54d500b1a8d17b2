"""MCP servers made with FastMCP and with the official Python SDK, for tests.

    server.py KIND [PORT]     serves on loopback; GET /sessions answers with how many are open

KIND is `fastmcp`, `fastmcp-stateless`, `sdk` or `sdk-json` over HTTP at /mcp, `guarded` (FastMCP that wants a token
signed with HS256), `fastmcp-stdio` or `sdk-stdio` over standard streams.
"""

import sys

import uvicorn
from starlette.responses import JSONResponse
from starlette.routing import Route

KEY = "a-key-of-the-organisation-0123456789"


def tools(server):
    @server.tool()
    def add(a: int, b: int) -> int:
        return a + b

    @server.tool()
    def greet(name: str) -> str:
        return f"hello {name}"

    return server


def fastmcp(auth=None):
    from fastmcp import FastMCP

    return tools(FastMCP("probed-fastmcp", auth=auth))


def sdk():
    from mcp.server import MCPServer

    return tools(MCPServer("probed-sdk"))


def manager(app):
    for route in app.routes:
        endpoint = getattr(route, "app", None) or getattr(route, "endpoint", None)
        while endpoint is not None:
            found = getattr(endpoint, "session_manager", None)
            if found is not None:
                return found
            endpoint = getattr(endpoint, "app", None)
    return None


def serve(app, port, sessions):
    async def count(_request):
        return JSONResponse(len(sessions()._server_instances))

    app.router.routes.insert(0, Route("/sessions", count))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


def main(kind, port):
    if kind == "fastmcp-stdio":
        fastmcp().run(transport="stdio", show_banner=False)
    elif kind == "sdk-stdio":
        sdk().run(transport="stdio")
    elif kind in ("sdk", "sdk-json"):
        server = sdk()
        app = server.streamable_http_app(json_response=kind == "sdk-json")
        serve(app, port, lambda: server.session_manager)
    else:
        auth = None
        if kind == "guarded":
            from fastmcp.server.auth.providers.jwt import JWTVerifier

            auth = JWTVerifier(public_key=KEY, algorithm="HS256", issuer="graphlit", audience="https://portal.graphlit.io")
        app = fastmcp(auth).http_app(path="/mcp", stateless_http=kind == "fastmcp-stateless")
        serve(app, port, lambda: manager(app))


main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
