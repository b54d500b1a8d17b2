// A client of the real TypeScript SDK (of either major version) that calls a tool again and again.
//
//     node client.mjs OPTIONS -- COMMAND...
//
// OPTIONS is as for client.py, and `sdk`: "v1" or "v2". The last line that it prints is JSON.
import { existsSync } from "node:fs";

const options = JSON.parse(process.argv[2]);
const command = process.argv.slice(process.argv.indexOf("--") + 1);

async function classes() {
  if (options.sdk === "v1") {
    const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
    const { StdioClientTransport } = await import("@modelcontextprotocol/sdk/client/stdio.js");
    return { Client, StdioClientTransport };
  }
  const { Client } = await import("@modelcontextprotocol/client");
  const { StdioClientTransport } = await import("@modelcontextprotocol/client/stdio");
  return { Client, StdioClientTransport };
}

const { Client, StdioClientTransport } = await classes();
const negotiation = options.sdk === "v2" ? { versionNegotiation: { mode: options.mode } } : {};
const client = new Client({ name: "test", version: "1" }, negotiation);
const transport = new StdioClientTransport({
  command: command[0], args: command.slice(1), env: process.env, stderr: "inherit",
});
const seen = { calls: 0, errors: [], worst_ms: 0, texts: {}, tools: 0 };
await client.connect(transport);
seen.tools = (await client.listTools()).tools.length;
console.log("connected");

const call = (tool, args, extra) => options.sdk === "v1"
  ? client.callTool({ name: tool, arguments: args }, undefined, extra)
  : client.callTool({ name: tool, arguments: args }, extra);
const text = (result) => result.content.map((part) => part.text ?? "").join("").slice(0, 80);

async function caller() {
  while (seen.calls < options.calls || !existsSync(options.until)) {
    seen.calls += 1;
    const began = performance.now();
    try {
      const result = await call(options.tool, options.arguments);
      if (result.isError) throw new Error(text(result));
      seen.texts[text(result)] = (seen.texts[text(result)] ?? 0) + 1;
    } catch (error) {
      seen.errors.push(String(error).slice(0, 200));
    }
    seen.worst_ms = Math.max(seen.worst_ms, performance.now() - began);
    await new Promise((resolve) => setTimeout(resolve, 1000 * (options.pause ?? 0)));
  }
}

async function long() {
  const steps = [];
  try {
    const onprogress = ({ progress }) => steps.push(progress);
    const result = await call(options.long.tool, options.long.arguments, { onprogress, timeout: 120000 });
    if (result.isError) throw new Error(text(result));
    seen.long = { text: text(result), progress: steps };
  } catch (error) {
    seen.errors.push("long: " + String(error).slice(0, 200));
  }
}

const tasks = Array.from({ length: options.callers }, caller);
if (options.long) tasks.push(long());
await Promise.all(tasks);
seen.tools_after = (await client.listTools()).tools.length;
await client.close();
console.log(JSON.stringify(seen));
