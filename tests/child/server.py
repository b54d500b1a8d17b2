"""A scripted MCP server of both eras, without any library, that can be told to misbehave.

It reads its endpoint from MCP_FAILOVER_SEARCH_ENDPOINT. SCRIPT is JSON: what it does wrong, for
which endpoint, for instance {"backup": "silent"}.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time

ENDPOINT = os.environ.get("MCP_FAILOVER_SEARCH_ENDPOINT", "none")
FAULT = json.loads(os.environ.get("SCRIPT", "{}")).get(ENDPOINT, "")
MODERN = "2026-07-28"
LOCK = threading.Lock()
TOOLS = [
    {"name": "where", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
    {"name": "write", "inputSchema": {"type": "object"}},
    {"name": "slow", "inputSchema": {"type": "object"}},
]


def say(message):
    with LOCK:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def answer(request, result):
    say({"jsonrpc": "2.0", "id": request["id"], "result": result})


def content(text):
    return {"content": [{"type": "text", "text": text}], "resultType": "complete"}


def slow(request):
    params = request["params"]
    token = params.get("_meta", {}).get("progressToken")
    for step in range(params["arguments"]["steps"]):
        if token is not None:
            params = {"progressToken": token, "progress": step + 1}
            say({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
        time.sleep(0.05)
    answer(request, content(ENDPOINT))


def call(request):
    name, arguments = request["params"]["name"], request["params"].get("arguments", {})
    once = arguments.get("once")
    if once and not os.path.exists(once):
        open(once, "w").close()
        if arguments.get("half"):
            sys.stdout.write('{"jsonrpc":"2.0","id":')
            sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "slow":
        threading.Thread(target=slow, args=(request,), daemon=True).start()
    elif arguments.get("blob"):
        answer(request, content("x" * arguments["blob"]))
    else:
        answer(request, content(f"{ENDPOINT} {os.getpid()}"))


def read(request):
    method = request.get("method")
    if method == "initialize":
        capabilities = {"tools": {}, "logging": {}, "resources": {"subscribe": True}}
        answer(request, {
            "protocolVersion": request["params"]["protocolVersion"],
            "capabilities": capabilities, "serverInfo": {"name": "scripted", "version": "1"},
        })
    elif method == "server/discover":
        answer(request, {
            "supportedVersions": [MODERN], "capabilities": {"tools": {}}, "resultType": "complete",
            "serverInfo": {"name": "scripted", "version": "1"},
        })
    elif method == "tools/list":
        tools = TOOLS[:1] if FAULT == "fewer" else TOOLS
        answer(request, {"tools": tools, "resultType": "complete"})
    elif method == "tools/call":
        call(request)
    elif "id" in request and method:
        answer(request, {})


if FAULT == "exit":
    sys.exit(0)
if FAULT == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "OFFSPRING" in os.environ:
    # Something that a server starts and does not look after.
    subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
print("this is no message", flush=True)
for line in sys.stdin:
    if FAULT != "silent":
        read(json.loads(line))
if FAULT == "stubborn":
    time.sleep(600)
