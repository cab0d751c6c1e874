"""Refuses calls whose caller has stopped to wait, for services on Nameko 2.14 and 3.0.

    from deadline import Deadline

    class Orders:
        name = "orders"
        deadline = Deadline()

RabbitMQ drops a call that expires in its queue, but not one that a worker has prefetched already.
Genkan sends the deadline along, as `nameko.deadline` in milliseconds since 1970: what comes after
it is answered with `DeadlineExceeded`, and does not run. Clocks have to agree. `self.deadline` is
what is left, in seconds, or None where the caller named none.

Nameko hands a context on with events too, and nobody waits for their handlers: of all that is no
call (`@rpc`) the deadline is dropped, before a worker or what it calls sees it.
"""

import time

from nameko.extensions import DependencyProvider
from nameko.rpc import Rpc


class DeadlineExceeded(Exception):
    """The caller does not wait any more: the method has not run."""


def seconds_left(worker_ctx):
    deadline = worker_ctx.data.get("deadline")
    try:
        return None if deadline is None else int(deadline) / 1000 - time.time()
    except (TypeError, ValueError):
        return None


class Deadline(DependencyProvider):
    def setup(self):
        spawn = self.container.spawn_worker

        def spawn_worker(entrypoint, args, kwargs, context_data=None, **options):
            if context_data and not isinstance(entrypoint, Rpc):
                context_data = {k: v for k, v in context_data.items() if k != "deadline"}
            return spawn(entrypoint, args, kwargs, context_data=context_data, **options)

        # The one place that all entrypoints pass, before other dependencies read the context.
        self.container.spawn_worker = spawn_worker

    def get_dependency(self, worker_ctx):
        return seconds_left(worker_ctx)

    def worker_setup(self, worker_ctx):
        left = seconds_left(worker_ctx)
        if left is None or left > 0:
            return

        def refuse(*args, **kwargs):
            raise DeadlineExceeded("the deadline passed {:.3f}s ago".format(-left))

        # To raise here would end the whole service: the method of this one worker is replaced.
        setattr(worker_ctx.service, worker_ctx.entrypoint.method_name, refuse)
