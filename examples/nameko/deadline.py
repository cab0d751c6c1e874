"""Refuses calls whose caller has stopped to wait, for services on Nameko 2.14 and 3.0.

    from deadline import Deadline

    class Orders:
        name = "orders"
        deadline = Deadline()

RabbitMQ drops a call that expires in its queue, but not one that a worker has prefetched already.
Genkan sends the deadline along, as `nameko.deadline` in milliseconds since 1970: what comes after
it is answered with `DeadlineExceeded`, and does not run. Clocks have to agree. `self.deadline` is
what is left, in seconds, or None where the caller named none.
"""

import time

from nameko.extensions import DependencyProvider


class DeadlineExceeded(Exception):
    """The caller does not wait any more: the method has not run."""


def seconds_left(worker_ctx):
    deadline = worker_ctx.data.get("deadline")
    try:
        return None if deadline is None else int(deadline) / 1000 - time.time()
    except (TypeError, ValueError):
        return None


class Deadline(DependencyProvider):
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
