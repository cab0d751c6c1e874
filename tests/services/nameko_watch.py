"""A Nameko service that hears events, in all three ways, and publishes them. Runs unchanged on Nameko
2.14.1 and 3.0.0rc11; what it hears it prints, a JSON list a line: [handler, payload, context].

WATCH_HEARS is the SERVICE.EVENT that it hears.
"""

import json
import os
import sys

from nameko.events import BROADCAST, SINGLETON, EventDispatcher, event_handler
from nameko.extensions import DependencyProvider
from nameko.rpc import rpc

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../examples/nameko"))
from deadline import Deadline  # noqa: E402

SOURCE, EVENT = os.environ.get("WATCH_HEARS", "orders.created").rsplit(".", 1)


class Context(DependencyProvider):
    def get_dependency(self, worker_ctx):
        return worker_ctx.context_data


class Watch:
    name = "watch"
    dispatch = EventDispatcher()
    context = Context()
    deadline = Deadline()

    def heard(self, handler, payload):
        context = {key: value for key, value in self.context.items() if isinstance(value, str)}
        print("heard " + json.dumps([handler, payload, context]), flush=True)

    @event_handler(SOURCE, EVENT)
    def pool(self, payload):
        self.heard("pool", payload)

    @event_handler(SOURCE, EVENT, handler_type=SINGLETON)
    def singleton(self, payload):
        self.heard("singleton", payload)

    @event_handler(SOURCE, EVENT, handler_type=BROADCAST, reliable_delivery=False)
    def broadcast(self, payload):
        self.heard("broadcast", payload)

    @rpc
    def emit(self, event, payload):
        self.dispatch(event, payload)
