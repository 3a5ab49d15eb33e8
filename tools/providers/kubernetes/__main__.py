"""The process behind the plugin `kubernetes`. Run by pulumi-resource-kubernetes, which the engine starts."""

from __future__ import annotations

import importlib.metadata
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from orphan import exit_with_parent
from pulumi.runtime.proto import provider_pb2_grpc

from tools.providers.kubernetes.engine import Engine
from tools.providers.kubernetes.server import Provider

THREADS = 128
"""Calls at work at once: most of them wait for the cluster."""


def main(arguments: list[str]) -> None:
    version = importlib.metadata.version("pulumi-kubernetes")
    engine = Engine(arguments[-1] if arguments and ":" in arguments[-1] else "")
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(THREADS), options=options)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Provider(version, engine), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)  # the engine reads it; nothing else may be printed
    ended = threading.Event()
    # The engine ends its plugins by SIGINT. They are in groups of their own, which a terminal's Ctrl-C does not reach.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
    server.stop(1).wait()


if __name__ == "__main__":
    exit_with_parent()
    main(sys.argv[1:])
