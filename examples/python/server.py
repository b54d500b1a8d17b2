#!/usr/bin/env python3
"""A server that follows a failover without a restart.

It reads the env file that the sidecar writes, proves that the file is complete by its last line,
and reads it again on SIGHUP or when the file was replaced. Run it beside the sidecar:

    python3 server.py /run/mcp/failover.env
"""

import hashlib
import os
import re
import signal
import sys
import time

TRAILER = re.compile(rb"# mcp-failover revision=(\d+) sha256=([0-9a-f]{64})\n\Z")


def read_env(path):
    """Returns (revision, variables), or None while the file is absent or incomplete."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    end = TRAILER.search(data)
    if end is None or hashlib.sha256(data[: end.start()]).hexdigest() != end[2].decode():
        return None
    from dotenv import dotenv_values  # pip install python-dotenv
    from io import StringIO

    return int(end[1]), dict(dotenv_values(stream=StringIO(data.decode()), interpolate=False))


def main(path):
    wake = False

    def hangup(_signal, _frame):
        nonlocal wake
        wake = True

    signal.signal(signal.SIGHUP, hangup)
    if len(sys.argv) > 2:  # where the sidecar finds us: on_change = { signal = "SIGHUP", pid_file = … }
        with open(sys.argv[2], "w") as file:
            file.write(f"{os.getpid()}\n")

    revision, seen = None, None
    while True:
        try:
            stat = os.stat(path)
            stamp = (stat.st_ino, stat.st_mtime_ns)
        except FileNotFoundError:
            stamp = None
        if wake or stamp != seen:
            wake, seen = False, stamp
            now = read_env(path)
            if now and now[0] != revision:
                revision, env = now
                # A real server would make its clients anew from `env` here.
                active = {k: v for k, v in env.items() if k.endswith("_ENDPOINT")}
                print(f"revision {revision}: {active}", flush=True)
        time.sleep(0.2)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} ENV_FILE [PID_FILE]")
    main(sys.argv[1])
