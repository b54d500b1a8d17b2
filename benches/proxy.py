#!/usr/bin/env python3
"""Measures the proxy beside HAProxy, nginx and Caddy, in one run on the same backend.

usage: proxy.py BINARY [http|tcp|failover]...

Each proxy has the first core to itself, the backend and the clients share the second. Needs nginx
and h2load (Debian: nginx-light, nghttp2-client); of haproxy and caddy what is missing is left out
and named. All traffic stays on loopback; every process and folder it makes is gone when
it ends.
"""

import asyncio
import atexit
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

BINARY = sys.argv[1] if len(sys.argv) > 1 else sys.exit(__doc__)
PARTS = sys.argv[2:] or ["http", "tcp", "failover"]
TICK = os.sysconf("SC_CLK_TCK")
BODY = "x" * 1024
PROXY_CORE, OTHER_CORE = 0, os.cpu_count() - 1
SECONDS = 8


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Process:
    """A process on one core, ended with the script."""

    def __init__(self, words, core, home, env=None):
        self.log = open(pathlib.Path(home) / f"{pathlib.Path(words[0]).name}.log", "wb")
        self.process = subprocess.Popen(
            words, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})}, start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        atexit.register(self.end)

    def members(self):
        """The process and its children: nginx works in one of those."""
        own = self.process.pid
        found = [own]
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if int(fields[1]) == own:
                    found.append(int(entry.name))
        return found

    def cpu(self):
        used = 0
        for pid in self.members():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            used += int(fields[11]) + int(fields[12])
        return used / TICK

    def rss(self):
        total = 0
        for pid in self.members():
            text = pathlib.Path(f"/proc/{pid}/status").read_text()
            total += int(re.search(r"VmRSS:\s+(\d+)", text).group(1))
        return total / 1024

    def end(self):
        if self.process.poll() is None:
            try:
                os.killpg(self.process.pid, signal.SIGTERM)
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
            except ProcessLookupError:
                pass
        self.log.close()


def wait_for(port, limit=15):
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return
        except OSError:
            time.sleep(0.02)
    raise TimeoutError(f"nobody listens on {port}")


# -- the four proxies, each with a first and a second server --------------------------------------

def ours(home, port, upstreams, tcp=False):
    probe = "tcp" if tcp else "http"
    scheme = "tcp" if tcp else "http"
    endpoints = "".join(
        f'[[services.a.endpoints]]\nname = "e{n}"\npriority = {n}\nurl = "{scheme}://127.0.0.1:{up}"\n'
        f'env = {{ A = "{n}" }}\n'
        for n, up in enumerate(upstreams)
    )
    text = (
        f'version = 1\n[sidecar]\nname = "bench"\nstate_dir = "{home}/state"\n[admin]\nlisten = "off"\n'
        f'[control]\nsocket = "{home}/control.sock"\n[services.a.probe]\ntype = "{probe}"\n'
        f'interval = "1s"\nstandby_interval = "1s"\nfast_interval = "200ms"\ntimeout = "1s"\nfall = 3\n{endpoints}'
        f'[[outputs]]\ntype = "proxy"\nservice = "a"\nlisten = "127.0.0.1:{port}"\nmode = "{"tcp" if tcp else "http"}"\n'
    )
    (home / "failover.toml").write_text(text)
    return Process([BINARY, "run", "--policy", str(home / "failover.toml")], PROXY_CORE, home)


def haproxy(home, port, upstreams, tcp=False):
    servers = "".join(
        f"  server e{n} 127.0.0.1:{up} check inter 1s fall 3 rise 2{' backup' if n else ''}\n"
        for n, up in enumerate(upstreams)
    )
    mode = "tcp" if tcp else "http"
    layer7 = "" if tcp else (
        "  option httpchk GET /\n  http-reuse always\n  retry-on all-retryable-errors\n  option redispatch 1\n"
    )
    (home / "haproxy.cfg").write_text(
        f"global\n  nbthread 1\ndefaults\n  mode {mode}\n  timeout connect 2s\n  timeout client 60s\n"
        f"  timeout server 60s\n  timeout check 1s\n  retries 3\n"
        f"frontend f\n  bind 127.0.0.1:{port}\n  default_backend b\nbackend b\n{layer7}{servers}"
    )
    return Process(["haproxy", "-db", "-f", str(home / "haproxy.cfg")], PROXY_CORE, home)


def nginx(home, port, upstreams):
    servers = "".join(f"server 127.0.0.1:{up}{' backup' if n else ''};" for n, up in enumerate(upstreams))
    write_nginx(home, f"""
      upstream b {{ {servers} keepalive 64; }}
      server {{ listen 127.0.0.1:{port};
        location / {{ proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection "";
          proxy_connect_timeout 2s; proxy_next_upstream error timeout http_502 http_503 http_504; }} }}""")
    return Process(["nginx", "-c", str(home / "nginx.conf"), "-p", str(home)], PROXY_CORE, home)


def write_nginx(home, inside):
    user = "user root;" if os.geteuid() == 0 else ""
    (home / "nginx.conf").write_text(
        f"{user} daemon off; worker_processes 1; pid {home}/nginx.pid; error_log {home}/error.log;\n"
        f"events {{ worker_connections 4096; }}\n"
        f"http {{ access_log off; keepalive_requests 10000000; "
        f"client_body_temp_path {home}/t1; proxy_temp_path {home}/t2; fastcgi_temp_path {home}/t3; "
        f"uwsgi_temp_path {home}/t4; scgi_temp_path {home}/t5; {inside} }}\n"
    )


def caddy(home, port, upstreams):
    targets = " ".join(f"127.0.0.1:{up}" for up in upstreams)
    (home / "Caddyfile").write_text(
        f"{{\n admin off\n auto_https off\n}}\nhttp://127.0.0.1:{port} {{\n reverse_proxy {targets} {{\n"
        f"  lb_policy first\n  lb_try_duration 2s\n  fail_duration 10s\n  unhealthy_status 5xx\n"
        f"  health_uri /\n  health_interval 1s\n  health_timeout 1s\n }}\n}}\n"
    )
    env = {"GOMAXPROCS": "1", "HOME": str(home), "XDG_DATA_HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    return Process(
        ["caddy", "run", "--adapter", "caddyfile", "--config", str(home / "Caddyfile")], PROXY_CORE, home, env
    )


PROXIES = [("mcp-failover", ours), ("haproxy", haproxy), ("nginx", nginx), ("caddy", caddy)]


def present():
    for name, start in PROXIES:
        if name == "mcp-failover" or shutil.which(name):
            yield name, start
        else:
            print(f"  ({name} is not installed: left out)")


# -- HTTP ---------------------------------------------------------------------------------------------

def h2load(port, *options):
    with tempfile.NamedTemporaryFile() as log:
        done = subprocess.run(
            ["taskset", "-c", str(OTHER_CORE), "h2load", "--h1", "-t1", f"-D{SECONDS}", f"--log-file={log.name}",
             *options, f"http://127.0.0.1:{port}/"],
            capture_output=True, text=True, check=True,
        )
        rows = [line.split("\t") for line in open(log.name)]
    failed = re.search(r"(\d+) failed, (\d+) errored", done.stdout)
    bad = sum(1 for row in rows if row[1] != "200")
    times = sorted(int(row[2]) for row in rows if row[1] == "200")
    return times, bad + int(failed.group(1)) if failed else bad


def at(times, part):
    return times[min(len(times) - 1, int(len(times) * part))] if times else float("nan")


def http():
    print("\nHTTP/1.1, 1 KiB answers, kept connections; the proxy on one core")
    print(f"  {'':<14}{'req/s':>9}{'CPU us/req':>12}{'RSS MB':>8}   at 2,000 req/s: {'p50':>7}{'p99':>8}"
          f"{'added p50':>11}{'added p99':>11}  us")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        back = free_port()
        (folder / "back").mkdir()
        write_nginx(folder / "back", f'server {{ listen 127.0.0.1:{back}; location / {{ return 200 "{BODY}"; }} }}')
        backend = Process(["nginx", "-c", str(folder / "back/nginx.conf"), "-p", str(folder / "back")],
                          OTHER_CORE, folder / "back")
        wait_for(back)
        direct, _ = h2load(back, "-c20", "--rps=100")
        print(f"  {'direct':<14}{'':>9}{'':>12}{'':>8}   {'':>16}{at(direct, .5):>7}{at(direct, .99):>8}", flush=True)
        for name, start in present():
            home = folder / name
            home.mkdir()
            port = free_port()
            proxy = start(home, port, [back])
            wait_for(port)
            time.sleep(1.5)
            h2load(port, "-c32")
            cpu, begun = proxy.cpu(), time.monotonic()
            times, failed = h2load(port, "-c32")
            span, used = time.monotonic() - begun, proxy.cpu() - cpu
            rss = proxy.rss()
            paced, late = h2load(port, "-c20", "--rps=100")
            print(
                f"  {name:<14}{len(times) / span:>9.0f}{used / max(1, len(times)) * 1e6:>12.1f}{rss:>8.1f}   {'':>16}"
                f"{at(paced, .5):>7}{at(paced, .99):>8}{at(paced, .5) - at(direct, .5):>11}"
                f"{at(paced, .99) - at(direct, .99):>11}  {'' if not failed + late else f'{failed + late} failed'}",
                flush=True,
            )
            proxy.end()
        backend.end()


# -- TCP ----------------------------------------------------------------------------------------------

SINK = """
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64)
def take(peer):
    room = bytearray(1 << 18)
    taken = 0
    while count := peer.recv_into(room):
        taken += count
    peer.sendall(taken.to_bytes(8, "big"))
    peer.close()
while True:
    threading.Thread(target=take, args=(listener.accept()[0],), daemon=True).start()
"""


def throughput(port, seconds=5):
    """GBit/s that one connection carries to a sink, which says at the end how much came."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        block, begun = bytes(1 << 18), time.monotonic()
        while time.monotonic() - begun < seconds:
            client.sendall(block)
        client.shutdown(socket.SHUT_WR)
        taken = int.from_bytes(client.recv(8, socket.MSG_WAITALL), "big")
        return taken * 8 / (time.monotonic() - begun) / 1e9


def tcp():
    print("\nTCP, one connection to a sink; the proxy on one core")
    print(f"  {'':<14}{'GBit/s':>9}{'CPU ms/GBit':>13}")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        back = free_port()
        sink = Process([sys.executable, "-c", SINK, str(back)], OTHER_CORE, folder)
        wait_for(back)
        print(f"  {'direct':<14}{throughput(back):>9.2f}", flush=True)
        for name, start in [("mcp-failover", ours), ("haproxy", haproxy)]:
            if start is haproxy and not shutil.which("haproxy"):
                continue
            home = folder / name
            home.mkdir()
            port = free_port()
            proxy = start(home, port, [back], True)
            wait_for(port)
            time.sleep(2)
            cpu = proxy.cpu()
            rate = throughput(port)
            print(f"  {name:<14}{rate:>9.2f}{(proxy.cpu() - cpu) * 1e3 / (rate * 5):>13.1f}", flush=True)
            proxy.end()
        sink.end()


# -- failover -----------------------------------------------------------------------------------------

class Upstream(asyncio.Protocol):
    """Answers at once, as `mode` says for its port."""

    mode = {}
    open = {}

    def __init__(self, port):
        self.port = port

    def connection_made(self, transport):
        self.transport = transport
        Upstream.open.setdefault(self.port, set()).add(transport)

    def connection_lost(self, _error):
        Upstream.open[self.port].discard(self.transport)

    def data_received(self, data):
        for _ in range(data.count(b"\r\n\r\n")):
            if Upstream.mode.get(self.port) == "503":
                self.transport.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
            elif Upstream.mode.get(self.port) != "silent":
                self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


async def upstream():
    port = free_port()
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(port), "127.0.0.1", port)
    return server, port


async def call(port):
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
            head = await reader.readline()
            return b" 200 " in head
        finally:
            writer.close()
    except OSError:
        return False


async def failed_calls(port, fault):
    """A call every 5 ms for six seconds; the fault comes after one."""
    calls = []

    async def one():
        begun = time.monotonic()
        try:
            good = await asyncio.wait_for(call(port), 3)
        except asyncio.TimeoutError:
            good = False
        return good, time.monotonic() - begun

    begun, struck = time.monotonic(), False
    for number in range(1200):
        await asyncio.sleep(max(0, begun + number * 0.005 - time.monotonic()))
        if number == 200 and not struck:
            struck = True
            await fault()
        calls.append(asyncio.create_task(one()))
    answers = await asyncio.gather(*calls)
    return sum(1 for good, _ in answers if not good), max(took for _, took in answers)


async def failover():
    print("\nA client with 200 GETs a second while the first server fails (second as backup), failed of 1,200 and worst wait")
    print(f"  {'':<14}{'killed':>16}{'answers 503':>18}{'silent':>18}")
    for name, start in present():
        row = []
        for kind in ("killed", "503", "silent"):
            with tempfile.TemporaryDirectory() as folder:
                (one, first), (two, second) = await upstream(), await upstream()
                port = free_port()
                proxy = start(pathlib.Path(folder), port, [first, second])
                await asyncio.to_thread(wait_for, port)
                await asyncio.sleep(2.5)

                async def fault():
                    if kind == "killed":
                        one.close()
                        for transport in list(Upstream.open.get(first, ())):
                            transport.abort()
                    else:
                        Upstream.mode[first] = kind

                failed, worst = await failed_calls(port, fault)
                row.append(f"{failed:>5} {worst * 1e3:>6.0f} ms")
                await asyncio.to_thread(proxy.end)
                one.close(), two.close()
        print(f"  {name:<14}" + "".join(f"{cell:>18}" for cell in row), flush=True)


os.sched_setaffinity(0, {OTHER_CORE})
print("Proxy")
if "http" in PARTS:
    http()
if "tcp" in PARTS:
    tcp()
if "failover" in PARTS:
    asyncio.run(failover())
