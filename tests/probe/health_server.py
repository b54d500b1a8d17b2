"""A gRPC server with the health service of its own library, for the tests.

It prints its port, then takes orders on standard input and answers each with a line:

    set SERVICE STATUS   what the health service says of a service ("-" is the whole server)
    abort CODE           every call ends with this code from now on ("-": no more)
    metadata KEY VALUE   sent at the end of calls that are aborted
    calls                how often Check and Watch were called

Arguments: --tls CERT KEY, --no-health (no such service), --no-watch (only Check).
"""

import sys
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


class Gate(grpc.ServerInterceptor):
    def __init__(self):
        self.calls = {"Check": 0, "Watch": 0}
        self.code = None
        self.metadata = ()

    def intercept_service(self, proceed, details):
        method = details.method.rsplit("/", 1)[-1]
        self.calls[method] = self.calls.get(method, 0) + 1
        if self.code is None:
            return proceed(details)
        code, metadata = self.code, self.metadata

        def abort(_request, context):
            context.set_trailing_metadata(metadata)
            context.abort(code, "as ordered: canary")

        return grpc.unary_unary_rpc_method_handler(abort)


class OnlyCheck(health_pb2_grpc.HealthServicer):
    def __init__(self, inner):
        self.inner = inner

    def Check(self, request, context):
        return self.inner.Check(request, context)


def main():
    gate = Gate()
    server = grpc.server(futures.ThreadPoolExecutor(8), interceptors=[gate])
    inner = health.HealthServicer()
    inner.set("", health_pb2.HealthCheckResponse.SERVING)
    if "--no-health" not in sys.argv:
        shown = OnlyCheck(inner) if "--no-watch" in sys.argv else inner
        health_pb2_grpc.add_HealthServicer_to_server(shown, server)
    if "--tls" in sys.argv:
        cert, key = (open(name, "rb").read() for name in sys.argv[sys.argv.index("--tls") + 1 :][:2])
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, cert)]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    for line in sys.stdin:
        order, *rest = line.split()
        answer = "done"
        if order == "set":
            name = "" if rest[0] == "-" else rest[0]
            inner.set(name, health_pb2.HealthCheckResponse.ServingStatus.Value(rest[1]))
        elif order == "abort":
            gate.code = None if rest[0] == "-" else grpc.StatusCode[rest[0]]
        elif order == "metadata":
            gate.metadata = ((rest[0], rest[1]),)
        elif order == "calls":
            answer = f"{gate.calls['Check']} {gate.calls['Watch']}"
        print(answer, flush=True)


main()
