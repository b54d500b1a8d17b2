#!/usr/bin/env python3
"""Measures one running sidecar from outside: start, memory, CPU a probe, reload, failover.

usage: process.py BINARY [start|reload|failover|scale]...

HAProxy, where it is installed, probes the same servers in the same run.
Upstreams are asyncio servers of this script that answer after 10 ms. Every process and folder it
makes is gone when it ends.
"""

import asyncio
import atexit
import ctypes
import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

BINARY = sys.argv[1] if len(sys.argv) > 1 else sys.exit(__doc__)
PARTS = sys.argv[2:] or ["start", "reload", "failover", "scale"]
TICK = os.sysconf("SC_CLK_TCK")
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"


class Upstream(asyncio.Protocol):
    """Answers 200 after 10 ms; `mode` says what else it may do."""

    mode = {}
    arrivals = []

    def __init__(self, port):
        self.port = port

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, _data):
        Upstream.arrivals.append(time.monotonic())
        if Upstream.mode.get(self.port, "ok") == "ok":
            asyncio.get_running_loop().call_later(0.010, self.answer)

    def answer(self):
        if not self.transport.is_closing():
            self.transport.write(ANSWER)
            self.transport.close()


async def upstream():
    """Starts one upstream on a free port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    port = listener.getsockname()[1]
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(port), sock=listener)
    return server, port


def policy(home, services, extra=""):
    return (
        f'version = 1\n[sidecar]\nname = "bench"\nstate_dir = "{home}/state"\n'
        f'[admin]\nlisten = "off"\n[control]\nsocket = "{home}/control.sock"\n{extra}\n{services}\n'
        f'[[outputs]]\ntype = "env_file"\npath = "{home}/env"\n'
    )


def fleet(count, interval, ports, marks=()):
    """`count` endpoints, ten a service, all probed at `interval`."""
    text = []
    for service in range((count + 9) // 10):
        text.append(
            f'[services.s{service}.probe]\ntype = "http"\npath = "/s{service}"\ninterval = "{interval}"\n'
            f'standby_interval = "{interval}"\nfast_interval = "500ms"\ntimeout = "900ms"\n'
            # No two probes are identical: identical ones would be one attempt.
            'headers = { X-Endpoint = "${endpoint.name}" }\n'
        )
        for endpoint in range(min(10, count - service * 10)):
            name = f"e{endpoint}"
            mark = "x" if (service, endpoint) in marks else "y"
            port = ports[(service * 10 + endpoint) % len(ports)]
            text.append(
                f'[[services.s{service}.endpoints]]\nname = "{name}"\npriority = {endpoint}\n'
                f'url = "http://127.0.0.1:{port}"\nenv = {{ S{service} = "{mark}{endpoint}" }}\n'
            )
    return "".join(text)


class Measured:
    """A process of ours that is looked at from outside."""

    def kill(self):
        """Whatever went wrong, nothing of ours runs on."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def rss(self):
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024

    def cpu(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK


class Sidecar(Measured):
    """A sidecar in a folder of its own."""

    def __init__(self, home, text):
        self.home = pathlib.Path(home)
        (self.home / "failover.toml").write_text(text)
        self.log = open(self.home / "log", "wb")
        self.started = time.monotonic()
        atexit.register(self.kill)
        self.process = subprocess.Popen(
            [BINARY, "run", "--policy", str(self.home / "failover.toml")],
            stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL,
        )

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=15)
        self.log.close()

    def env(self):
        try:
            return (self.home / "env").read_text()
        except FileNotFoundError:
            return ""

    def ask(self, request):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(self.home / "control.sock"))
            client.sendall(json.dumps(request).encode() + b"\n")
            return json.loads(client.makefile().readline())

    async def until(self, condition, limit=30.0, step=0.0005):
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            if condition():
                return time.monotonic()
            await asyncio.sleep(step)
        raise TimeoutError(f"gave up waiting; the log says:\n{(self.home / 'log').read_text()[-2000:]}")


def shown(label, values, unit, scale=1.0):
    values = sorted(value * scale for value in values)
    print(f"  {label:<58} median {statistics.median(values):8.2f}  max {values[-1]:8.2f} {unit}")


async def start_to_first_file(port):
    times = []
    for _ in range(20):
        with tempfile.TemporaryDirectory() as home:
            text = policy(home, fleet(4, "1s", [port]))
            sidecar = Sidecar(home, text)
            times.append(await sidecar.until(lambda: "MCP_FAILOVER_REVISION" in sidecar.env()) - sidecar.started)
            sidecar.end()
    shown("start to first env file, 4 endpoints (20 runs)", times, "ms", 1000)


LATENESS = "mcp_failover_probe_lateness_seconds_bucket"


def buckets(port):
    """How many attempts began how late, by upper bound in seconds, as the sidecar counts it."""
    if port is None:
        return {}
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found = re.findall(rf'^{LATENESS}{{le="([^"]+)"}} (\d+)', text, re.M)
    return {float(bound.replace("+Inf", "inf")): int(count) for bound, count in found}


def quantile(before, after, part):
    """Where it lies in its bucket if the bucket is filled evenly, in milliseconds."""
    counts = sorted((bound, count - before.get(bound, 0)) for bound, count in after.items())
    wanted = max((count for _, count in counts), default=0) * part
    below = (0.0, 0)
    for bound, count in counts:
        if count >= wanted and count > below[1] and bound != float("inf"):
            return (below[0] + (bound - below[0]) * (wanted - below[1]) / (count - below[1])) * 1e3
        below = (bound, count)
    return float("nan")


def haproxy(home, count, interval, ports):
    """The same probes by HAProxy, or nothing when it is not installed."""
    if not shutil.which("haproxy"):
        return None
    text = "global\n  nbthread 1\ndefaults\n  mode http\n  timeout connect 900ms\n  timeout check 900ms\n"
    text += "  timeout client 5s\n  timeout server 5s\n"
    # Without anybody to serve it does not start.
    text += f"frontend f\n  bind 127.0.0.1:{free_port()}\n  default_backend s0\n"
    for service in range((count + 9) // 10):
        text += f"backend s{service}\n  option httpchk GET /\n"
        for endpoint in range(min(10, count - service * 10)):
            port = ports[(service * 10 + endpoint) % len(ports)]
            text += f"  server e{endpoint} 127.0.0.1:{port} check inter {interval}\n"
    (pathlib.Path(home) / "haproxy.cfg").write_text(text)
    return Peer(["haproxy", "-db", "-f", f"{home}/haproxy.cfg"])


class Peer(Measured):
    """Another process that probes."""

    def __init__(self, words):
        self.process = subprocess.Popen(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        atexit.register(self.kill)

    def end(self):
        self.process.terminate()
        self.process.wait(timeout=15)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


async def scale(ports):
    print("\nProbing at scale, fresh connections, 10 ms upstream")
    print(f"  {'':<14}{'endpoints':>10} {'interval':>9} {'RSS MB':>8} {'CPU us a probe':>15} {'of rate':>8}"
          f" {'burst/10ms':>11} {'late p50':>9} {'late p99':>9} ms")
    for count, interval, every in [(4, "1s", 1), (100, "1s", 1), (1000, "1s", 1), (5000, "5s", 5)]:
        for name in ("mcp-failover", "haproxy"):
            with tempfile.TemporaryDirectory() as home:
                metrics = None
                if name == "haproxy":
                    prober = haproxy(home, count, interval, ports)
                else:
                    metrics = free_port()
                    text = policy(home, fleet(count, interval, ports))
                    prober = Sidecar(home, text.replace('listen = "off"', f'listen = "127.0.0.1:{metrics}"'))
                if prober is None:
                    continue
                await observe(name, prober, count, interval, every, metrics)


async def observe(name, prober, count, interval, every, metrics):
    await asyncio.sleep(4 + 2 * every)
    late = await asyncio.to_thread(buckets, metrics)
    Upstream.arrivals.clear()
    cpu, begun = prober.cpu(), time.monotonic()
    await asyncio.sleep(30 if count < 10 else 15)
    used, span = prober.cpu() - cpu, time.monotonic() - begun
    arrivals, rss = list(Upstream.arrivals), prober.rss()
    now_late = await asyncio.to_thread(buckets, metrics)
    slots = {}
    for at in arrivals:
        slots[int(at * 100)] = slots.get(int(at * 100), 0) + 1
    rate = len(arrivals) / span / (count / every)
    burst = max(slots.values(), default=0) / max(1, count)
    micros = used / max(1, len(arrivals)) * 1e6
    lateness = "".join(f" {quantile(late, now_late, part):>9.2f}" for part in (0.5, 0.99) if metrics)
    print(
        f"  {name:<14}{count:>10} {interval:>9} {rss:>8.1f} {micros:>15.0f} {rate:>8.0%} {burst:>11.1%}{lateness}",
        flush=True,
    )
    prober.end()


async def reload_thousand(port):
    times = []
    with tempfile.TemporaryDirectory() as home:
        def text(marks):
            return policy(home, fleet(1000, "60s", [port], marks))

        sidecar = Sidecar(home, text(()))
        await sidecar.until(lambda: sidecar.env().count("_ENDPOINT=") == 100, 60)
        await asyncio.sleep(2)
        settle = []
        for turn in range(10):
            marks = {(7, 0)} if turn % 2 == 0 else ()
            wanted = "S7=x0" if marks else "S7=y0"
            fresh = sidecar.home / "fresh"
            fresh.write_text(text(marks))
            begun = time.monotonic()
            fresh.rename(sidecar.home / "failover.toml")
            times.append(await sidecar.until(lambda: wanted in sidecar.env().replace('"', "").replace("'", "")) - begun)
            begun = time.monotonic()
            answer = sidecar.ask({"request": "reload"})
            settle.append(time.monotonic() - begun)
            assert answer["ok"], answer
            await asyncio.sleep(0.3)
        sidecar.end()
    shown("edit of 1,000 endpoints to new env file, settling included", times, "ms", 1000)
    shown("reload of 1,000 endpoints, asked for, unchanged", settle, "ms", 1000)


class Woken(threading.Thread):
    """A reader that sleeps on inotify and notes the time of day at which a rename woke it."""

    MOVED_TO = 0x80

    def __init__(self, folder):
        super().__init__(daemon=True)
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(0o2000000)
        if self.fd < 0 or libc.inotify_add_watch(self.fd, os.fsencode(folder), self.MOVED_TO) < 0:
            raise OSError(ctypes.get_errno(), "inotify")
        self.times = []

    def run(self):
        while True:
            batch = os.read(self.fd, 4096)
            now = time.time()
            if b"env\0" in batch:
                self.times.append(now)


def decided(home):
    """When each failover was decided, by the sidecar's own log."""
    times = []
    for line in (home / "log").read_text().splitlines():
        entry = json.loads(line)
        if entry.get("event") == "switched" and entry["message"].startswith("failover"):
            times.append(datetime.datetime.fromisoformat(entry["timestamp"].replace("Z", "+00:00")).timestamp())
    return times


async def failover(kind, trials=10):
    """Interval 1 s, timeout 1 s, fall 3, fast 200 ms."""
    extra = (
        '[defaults.probe]\ninterval = "1s"\nstandby_interval = "1s"\nfast_interval = "200ms"\ntimeout = "1s"\n'
        'fall = 3\nrise = 2\n[defaults.breaker]\nreset_timeout = "500ms"\n'
        '[defaults.failover]\nbudget = 1000\nverify = "1ms"\nflap = { penalty = 1 }\n'
        'failback = { mode = "auto", hold = "500ms" }\n'
    )
    (one, first), (two, second) = await upstream(), await upstream()
    services = (
        '[services.a.probe]\ntype = "http"\npath = "/"\n'
        f'[[services.a.endpoints]]\nname = "p"\npriority = 0\nurl = "http://127.0.0.1:{first}"\nenv = {{ A = "p" }}\n'
        f'[[services.a.endpoints]]\nname = "b"\npriority = 1\nurl = "http://127.0.0.1:{second}"\nenv = {{ A = "b" }}\n'
    )
    times = []
    with tempfile.TemporaryDirectory() as home:
        sidecar = Sidecar(home, policy(home, services, extra))
        at = lambda name: f"A_ENDPOINT={name}" in sidecar.env().replace('"', "").replace("'", "")
        await sidecar.until(lambda: at("p"))
        reader = Woken(home)
        reader.start()
        for trial in range(trials):
            await asyncio.sleep(1.5 + trial * 0.097)
            begun = time.monotonic()
            if kind == "refused":
                one.close()
            else:
                Upstream.mode[first] = "hang"
            times.append(await sidecar.until(lambda: at("b")) - begun)
            if kind == "refused":
                listener = socket.create_server(("127.0.0.1", first), backlog=4096)
                one = await asyncio.get_running_loop().create_server(lambda: Upstream(first), sock=listener)
            else:
                Upstream.mode[first] = "ok"
            await sidecar.until(lambda: at("p"))
        sidecar.end()
        wakes = [min((w - at for w in reader.times if w >= at), default=0) for at in decided(sidecar.home)]
    one.close(), two.close()
    shown(f"fault to rewritten env file, {kind} ({trials} trials)", times, "s")
    shown(f"decision to env file renamed and reader woken, {kind}", wakes, "ms", 1000)


async def main():
    servers = [await upstream() for _ in range(4)]
    ports = [port for _, port in servers]
    print("Whole process")
    size = os.path.getsize(BINARY) / 1e6
    print(f"  binary {size:.2f} MB")
    if "start" in PARTS:
        await start_to_first_file(ports[0])
    if "reload" in PARTS:
        await reload_thousand(ports[0])
    if "failover" in PARTS:
        await failover("refused")
        await failover("silent")
    if "scale" in PARTS:
        await scale(ports)


asyncio.run(main())
