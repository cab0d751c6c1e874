"""A real Nameko service for the tests and the demo. Runs unchanged on Nameko 2.14.1 and 3.0.0rc11:

    nameko run nameko_shop --broker URI             (2.x)
    nameko run nameko_shop --define AMQP_URI=URI    (3.x)

SHOP_NAME is the service's name, `shop` unless it is set; SHOP_COMPRESSION names one of kombu's
methods to compress what it sends with. Beside it runs `<name>_pantry`, which
the shop calls. Every call is noted, so that a test can see what ran: `ran(token)`.
"""

import datetime
import decimal
import os
import sys
import uuid

import eventlet
from nameko.amqp.publish import Publisher
from nameko.exceptions import IncorrectSignature
from nameko.extensions import DependencyProvider
from nameko.rpc import rpc

try:  # Nameko 3
    from nameko.rpc import ServiceRpc
except ImportError:  # Nameko 2
    from nameko.rpc import RpcProxy as ServiceRpc

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../examples/nameko"))
from deadline import Deadline  # noqa: E402

Publisher.compression = os.environ.get("SHOP_COMPRESSION")

NAME = os.environ.get("SHOP_NAME", "shop")
RAN = []


class ShopError(Exception):
    pass


class MethodNotFound(Exception):
    """A service's own class that only sounds like one of Nameko's."""


class CallContext(DependencyProvider):
    """What travelled with the call, as Nameko hands it to a worker."""

    def get_dependency(self, worker_ctx):
        stack = worker_ctx.call_id_stack
        return {"data": dict(worker_ctx.data), "stack": list(stack)}


class Pantry:
    name = NAME + "_pantry"

    call_context = CallContext()

    @rpc
    def context(self):
        return self.call_context

    @rpc
    def take(self, what):
        return what


class Shop:
    name = NAME

    call_context = CallContext()
    pantry = ServiceRpc(NAME + "_pantry")
    deadline = Deadline()

    @rpc
    def context(self):
        return self.call_context

    @rpc
    def chain(self):
        """Calls another service on the way."""
        return self.pantry.context()

    @rpc
    def nested_bad(self, token):
        """Does something, and then calls another service with too many arguments."""
        RAN.append([token, []])
        return self.pantry.take(1, 2, 3)

    @rpc
    def nested_unknown(self, token):
        RAN.append([token, []])
        return self.pantry.nope()

    @rpc
    def take(self, token):
        """The same, and the other service's method has the same name."""
        RAN.append([token, []])
        return self.pantry.take(1, 2, 3)

    @rpc
    def vanish(self, token):
        """The same with a method that only this service has."""
        RAN.append([token, []])
        return self.pantry.vanish()

    @rpc
    def unhappy(self, token):
        """Raises by itself what Nameko raises for a call that it refuses."""
        RAN.append([token, []])
        raise IncorrectSignature()

    @rpc
    def echo(self, *args, **kwargs):
        return {"args": args, "kwargs": kwargs}

    @rpc
    def add(self, a, b):
        return a + b

    @rpc
    def subtract(self, minuend, subtrahend):
        return minuend - subtrahend

    @rpc
    def sum(self, *numbers):
        return sum(numbers)

    @rpc
    def get_data(self):
        return ["hello", 5]

    @rpc
    def update(self, *args):
        RAN.append(["update", list(args)])

    @rpc
    def note(self, token, *rest):
        RAN.append([token, list(rest)])
        return len(RAN)

    @rpc
    def slow_note(self, token, seconds):
        eventlet.sleep(seconds)
        RAN.append([token, [seconds]])
        return token

    @rpc
    def ran(self, token):
        return [rest for noted, rest in RAN if noted == token]

    @rpc
    def slow(self, seconds):
        eventlet.sleep(seconds)
        return seconds

    @rpc
    def none(self):
        return None

    @rpc
    def fail(self):
        raise ValueError("bad 1")

    @rpc
    def custom(self):
        raise ShopError("a", 2, {"k": [1]})

    @rpc
    def key_error(self):
        return {}["nope"]

    @rpc
    def imposter(self):
        raise MethodNotFound("not what it seems")

    @rpc
    def empty_error(self):
        raise RuntimeError()

    @rpc
    def nan(self):
        return {"nan": float("nan"), "more": [float("inf"), float("-inf"), "NaN", 1]}

    @rpc
    def big(self):
        return [2**53 + 1, 2**70, -(2**63)]

    @rpc
    def tagged(self):
        return {
            "date": datetime.date(2024, 2, 29),
            "datetime": datetime.datetime(2024, 2, 29, 12, 30, 15),
            "decimal": decimal.Decimal("1.10"),
            "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
            "plain": {"__type__": "mine"},
        }

    @rpc
    def unserialisable(self):
        return object()

    @rpc
    def japanese(self):
        return "玄関 \u2028 \U0001f3e0 \\ \" /"
