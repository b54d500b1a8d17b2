#!/usr/bin/env python3
"""Measures how long a switch takes to reach the clients of one config socket.

usage: subscribers.py BINARY [CLIENTS [STALLED]]

10,000 subscribers by default, of whom 1,000 never read. Times are from the order being sent to the
line being read, so they hold this script's own reading of all lines: the floor is the same with a
bare sender in place of the sidecar. Everything started is ended.
"""

import atexit
import json
import os
import pathlib
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

BINARY = sys.argv[1] if len(sys.argv) > 1 else sys.exit(__doc__)
CLIENTS = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
STALLED = int(sys.argv[3]) if len(sys.argv) > 3 else CLIENTS // 10
SWITCHES = 40
PADDING = "x" * 2048


def ask(path, request):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(path)
        client.sendall(json.dumps(request).encode() + b"\n")
        return json.loads(client.makefile().readline())


def order(control, endpoint):
    command = {"order": {"order": "switch", "service": "a", "endpoint": endpoint, "force": True}, "reason": "bench"}
    answer = ask(control, {"request": "command", "command": command})
    assert answer["ok"], answer


def rss(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024


def policy(home, port):
    endpoints = "".join(
        f'[[services.a.endpoints]]\nname = "e{n}"\npriority = {n}\nurl = "tcp://127.0.0.1:{port}"\n'
        f'env = {{ A = "{n}", PADDING = "{PADDING}" }}\n'
        for n in range(2)
    )
    return (
        f'version = 1\n[sidecar]\nname = "bench"\nstate_dir = "{home}/state"\n[admin]\nlisten = "off"\n'
        f'[control]\nsocket = "{home}/control.sock"\n[services.a.probe]\ntype = "tcp"\ninterval = "60s"\n'
        f'{endpoints}[[outputs]]\ntype = "socket"\npath = "{home}/config.sock"\nmax_clients = 20000\n'
    )


def connect(path, count):
    clients = []
    for _ in range(count):
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        client.sendall(b'{"id":1,"op":"subscribe","service":"a"}\n')
        clients.append(client)
    return clients


def drain(epoll, marker, wanted, limit=30):
    """When each client saw the marker."""
    seen, tails, deadline = {}, {}, time.monotonic() + limit
    while len(seen) < wanted and time.monotonic() < deadline:
        for fd, _ in epoll.poll(0.5, 4096):
            read = os.read(fd, 65536)
            if not read:
                raise EOFError("the sidecar hung up")
            data = tails.pop(fd, b"") + read
            now = time.monotonic()
            if marker in data:
                seen.setdefault(fd, now)
            tails[fd] = data[-64:]
    return sorted(seen.values())


def report(name, rounds, extra=""):
    times = sorted(t for one in rounds for t in one)
    last = sorted(one[-1] for one in rounds)
    at = lambda values, part: values[min(len(values) - 1, int(len(values) * part))] * 1e3
    print(f"  {name:<26} to one: p50 {at(times, .5):7.1f}  p99 {at(times, .99):7.1f} ms   "
          f"to the last: median {at(last, .5):7.1f}  worst {at(last, 1):7.1f} ms{extra}", flush=True)


def watcher(clients):
    epoll = select.epoll()
    for client in clients:
        client.setblocking(False)
        epoll.register(client.fileno(), select.EPOLLIN)
    return epoll


def sidecar():
    listener = socket.create_server(("127.0.0.1", 0))
    with tempfile.TemporaryDirectory() as home:
        (pathlib.Path(home) / "failover.toml").write_text(policy(home, listener.getsockname()[1]))
        log = open(pathlib.Path(home) / "log", "wb")
        process = subprocess.Popen([BINARY, "run", "--policy", f"{home}/failover.toml"], stdout=log, stderr=log)
        atexit.register(lambda: process.poll() is None and process.kill())
        path, control = f"{home}/config.sock", f"{home}/control.sock"
        deadline = time.monotonic() + 20
        while not (os.path.exists(path) and os.path.exists(control)) and time.monotonic() < deadline:
            time.sleep(0.01)
        before = rss(process.pid)
        stalled, reading = connect(path, STALLED), connect(path, CLIENTS - STALLED)
        epoll = watcher(reading)
        drain(epoll, b'"id":1', len(reading), 60)
        held = rss(process.pid)
        rounds, missed = [], 0
        for number in range(SWITCHES):
            target = f"e{(number + 1) % 2}"
            begun = time.monotonic()
            sender = threading.Thread(target=order, args=(control, target))
            sender.start()
            seen = drain(epoll, f'"id":"{target}"'.encode(), len(reading), 30)
            sender.join()
            missed += len(reading) - len(seen)
            rounds.append([at - begun for at in seen])
        extra = (f"\n  memory: {before:.1f} MB alone, {held:.1f} with {CLIENTS} clients, {rss(process.pid):.1f} after "
                 f"{SWITCHES} switches of {len(PADDING)} bytes; {missed} of {SWITCHES * len(reading)} missed")
        report("mcp-failover", rounds, extra)
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        for client in stalled + reading:
            client.close()


def floor():
    """A bare loop that writes the same bytes to as many readers."""
    pairs = [socket.socketpair() for _ in range(CLIENTS - STALLED)]
    for here, _ in pairs:
        here.setblocking(False)
    epoll = watcher([there for _, there in pairs])
    ready, go = os.pipe()
    line = b'{"event":"switch","endpoint":{"id":"mark"},"x":"' + PADDING.encode() + b'"}\n'
    child = os.fork()
    if child == 0:
        while os.read(ready, 1):
            for here, _ in pairs:
                here.send(line)
        os._exit(0)
    os.close(ready)
    rounds = []
    for _ in range(SWITCHES):
        begun = time.monotonic()
        os.write(go, b"x")
        rounds.append([at - begun for at in drain(epoll, b'"id":"mark"', len(pairs))])
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    report("floor: a bare sender", rounds)


_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
print(f"Config socket: {CLIENTS} subscribers, {STALLED} of whom never read, {SWITCHES} switches")
floor()
sidecar()
