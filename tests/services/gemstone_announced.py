"""A Gemstone service that announces itself: `gemstone_announced.py NAME PORT REGISTRY`.

Runs with 0.3.1, 0.9.0 and 0.12.0, and tornado4/ on its path. Prints `ready` before it serves.
"""

import sys

try:
    from gemstone.core import MicroService, exposed_method
except ImportError:
    from gemstone import MicroService

    try:
        from gemstone import exposed_method
    except ImportError:
        from gemstone import public_method

        def exposed_method():
            return public_method

NAME, PORT, REGISTRY = sys.argv[1], int(sys.argv[2]), sys.argv[3]
# 0.9.0 reads the rest as options of its own.
del sys.argv[1:]


class Service(MicroService):
    name = NAME
    host = "127.0.0.1"
    port = PORT
    service_registry_ping_interval = 1

    try:
        from gemstone.discovery import HttpDiscoveryStrategy

        discovery_strategies = [HttpDiscoveryStrategy(REGISTRY)]
    except ImportError:
        service_registry_urls = [REGISTRY]

    @exposed_method()
    def say_hello(self, name):
        return "hello {} from {}".format(name, NAME)

    @exposed_method()
    def fail(self):
        raise ValueError("bad 1")

    @exposed_method()
    def relay(self, pattern, name):
        """Finds another service by the registry, and calls it."""
        other = self.get_service(pattern)
        if hasattr(other, "methods"):
            return other.methods.say_hello(name)
        return other.call_method("say_hello", [name]).result


if __name__ == "__main__":
    print("ready", flush=True)
    Service().start()
