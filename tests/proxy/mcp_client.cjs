// Asks the server for its name on one session, once for each line on standard input.
const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
const { StreamableHTTPClientTransport } = require("@modelcontextprotocol/sdk/client/streamableHttp.js");
const readline = require("node:readline");

(async () => {
  const client = new Client({ name: "test", version: "1" });
  await client.connect(new StreamableHTTPClientTransport(new URL(process.argv[2])));
  for await (const _ of readline.createInterface({ input: process.stdin })) {
    try {
      await client.listTools();
      const result = await client.callTool({ name: "get-env", arguments: {} });
      console.log("said " + JSON.parse(result.content[0].text).SERVER_NAME);
    } catch (error) {
      console.log("failed " + error.message.replaceAll("\n", " "));
    }
  }
  process.exit(0);
})();
