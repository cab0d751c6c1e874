"""A Gemstone 0.12 service: `gemstone_hello.py PORT`. Prints `ready` before it serves."""

import sys

from gemstone.core import MicroService, exposed_method


class Hello(MicroService):
    name = "hello.world.service"
    host = "127.0.0.1"
    port = int(sys.argv[1])
    accessible_at = ("127.0.0.1", port)

    @exposed_method()
    def say_hello(self, name):
        return "hello {}".format(name)

    @exposed_method()
    def fail(self):
        raise ValueError("bad 1")


if __name__ == "__main__":
    print("ready", flush=True)
    Hello().start()
