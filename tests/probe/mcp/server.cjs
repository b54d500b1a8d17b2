// An MCP server made with the official TypeScript SDK, for tests: `node server.cjs PORT`, with NODE_PATH set.
// It answers with plain JSON; GET /sessions answers with how many are open.

const { randomUUID } = require("node:crypto");
const { createServer } = require("node:http");
const { McpServer } = require("@modelcontextprotocol/sdk/server/mcp.js");
const { StreamableHTTPServerTransport } = require("@modelcontextprotocol/sdk/server/streamableHttp.js");

const sessions = new Map();

async function open() {
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    enableJsonResponse: true,
    onsessioninitialized: (id) => sessions.set(id, transport),
    onsessionclosed: (id) => sessions.delete(id),
  });
  const server = new McpServer({ name: "probed-typescript", version: "1.0.0" });
  server.registerTool("greet", { description: "says hello" }, async () => ({ content: [] }));
  await server.connect(transport);
  return transport;
}

const http = createServer(async (request, response) => {
  if (request.url === "/sessions") {
    response.end(String(sessions.size));
    return;
  }
  const known = request.headers["mcp-session-id"];
  const transport = known === undefined ? await open() : sessions.get(known);
  if (transport === undefined) {
    response.statusCode = 404;
    response.end();
    return;
  }
  await transport.handleRequest(request, response);
});

http.listen(Number(process.argv[2]), "127.0.0.1");
