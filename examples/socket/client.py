"""Follows a service over the config socket: python3 client.py SOCKET SERVICE"""
import json, random, socket, sys, time


def follow(path, service, use):
    """Calls use(endpoint) with what is active now and after every switch; endpoint is None while
    nothing is alive. When the sidecar goes, the last endpoint stays in use."""
    latest = None
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rw") as lines:
                sock.connect(path)
                print(json.dumps({"id": 1, "op": "subscribe", "service": service}), file=lines, flush=True)
                for message in map(json.loads, lines):
                    if "endpoint" in message and (message["gen"], message["seq"]) != latest:
                        latest = message["gen"], message["seq"]
                        use(message["endpoint"])
                        ack = {"op": "ack", "service": service, "gen": latest[0], "seq": latest[1]}
                        print(json.dumps(ack), file=lines, flush=True)
        except OSError:
            pass
        time.sleep(0.5 + random.random() / 2)


if __name__ == "__main__":
    follow(sys.argv[1], sys.argv[2], lambda endpoint: print(endpoint and endpoint["id"], flush=True))
