"""A Nameko service whose dependencies live in other worlds: it calls them as if they were Nameko's. Runs
unchanged on Nameko 2.14.1 and 3.0.0rc11; DESK_CALLS names the services that it calls, with blanks
between."""

import os

from nameko.rpc import rpc

try:  # Nameko 3
    from nameko.rpc import ServiceRpc
except ImportError:  # Nameko 2
    from nameko.rpc import RpcProxy as ServiceRpc


class Desk:
    name = "desk"

    @rpc
    def ask(self, service, method, *args, **kwargs):
        return getattr(getattr(self, service), method)(*args, **kwargs)


for service in os.environ.get("DESK_CALLS", "").split():
    setattr(Desk, service, ServiceRpc(service))
