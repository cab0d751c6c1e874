"""The mesh's service on Nameko: each method is a case, and each call that reaches one is told on standard
output as `seen {…}`, with its context.

    nameko run mesh_nameko --broker URI
"""

import json
import time

import eventlet
from nameko.extensions import DependencyProvider
from nameko.rpc import rpc


class Refused(Exception):
    pass


class Seen(DependencyProvider):
    def worker_setup(self, worker_ctx):
        entry = {
            "method": worker_ctx.entrypoint.method_name,
            "params": worker_ctx.kwargs,
            "context": dict(worker_ctx.data),
        }
        left = worker_ctx.data.get("deadline", 0) - time.time() * 1000
        entry["context"]["left"] = int(left)
        print("seen " + json.dumps(entry, default=str), flush=True)

    def get_dependency(self, worker_ctx):
        return None


class Mesh:
    name = "mesh_nameko"

    seen = Seen()

    @rpc
    def echo(self, **params):
        return params

    @rpc
    def nothing(self, cell):
        return None

    @rpc
    def fail(self, cell):
        raise Refused("no size", {"line": 7})

    @rpc
    def pick(self, cell, size):
        return size

    @rpc
    def late(self, cell):
        eventlet.sleep(8)

    @rpc
    def note(self, cell):
        return "noted"
