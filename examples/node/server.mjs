#!/usr/bin/env node
// A server that follows a failover without a restart.
//
// It reads the env file that the sidecar writes, proves that the file is complete by its last
// line, and reads it again on SIGHUP or when the file was replaced. Run it beside the sidecar:
//
//     npm install dotenv && node server.mjs /run/mcp/failover.env

import { createHash } from "node:crypto";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { parse } from "dotenv";

const [path, pidFile] = process.argv.slice(2);
if (!path) {
  console.error("usage: server.mjs ENV_FILE [PID_FILE]");
  process.exit(2);
}
const trailer = /# mcp-failover revision=(\d+) sha256=([0-9a-f]{64})\n$/;

/** Returns { revision, env }, or undefined while the file is absent or incomplete. */
function readEnv() {
  let text;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
  const end = trailer.exec(text);
  const sum = end && createHash("sha256").update(text.slice(0, end.index)).digest("hex");
  return end && sum === end[2] ? { revision: Number(end[1]), env: parse(text) } : undefined;
}

let revision;
function refresh() {
  const now = readEnv();
  if (!now || now.revision === revision) return;
  revision = now.revision;
  // A real server would make its clients anew from `now.env` here.
  const active = Object.entries(now.env).filter(([key]) => key.endsWith("_ENDPOINT"));
  console.log(`revision ${revision}: ${JSON.stringify(Object.fromEntries(active))}`);
}

process.on("SIGHUP", refresh);
if (pidFile) writeFileSync(pidFile, `${process.pid}\n`);

let seen;
setInterval(() => {
  const stat = statSync(path, { throwIfNoEntry: false });
  const stamp = stat && `${stat.ino}:${stat.mtimeMs}`;
  if (stamp !== seen) {
    seen = stamp;
    refresh();
  }
}, 200);
