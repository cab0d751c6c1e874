"""Gemstone 0.9.0's client, which finds a service by a registry: gemstone9_calls.py REGISTRY PATTERN

Calls `say_hello` and `fail`, as the services of the tests have them.
"""

import json
import sys

from gemstone import RemoteService
from gemstone.errors import CalledServiceError

REGISTRY, PATTERN = sys.argv[1:]


def failure(call):
    try:
        return call()
    except CalledServiceError as error:
        return {"raised": error.args[0]}


out = {"methods_of_the_registry": RemoteService(REGISTRY).get_available_methods()}
out["nobody"] = failure(lambda: RemoteService.get_service_by_name(REGISTRY, "no.such.*"))
service = RemoteService.get_service_by_name(REGISTRY, PATTERN)
out["name"], out["url"] = service.name, service.url
out["positional"] = service.methods.say_hello("bob")
out["named"] = service.methods.say_hello(name="bob")
service.notifications.say_hello("nobody waits")
waiting = service.methods.say_hello("later", __async=True)
waiting.wait()
out["async"] = [waiting.finished(), waiting.result(), waiting.error()]
failing = service.methods.fail(__async=True)
failing.wait()
out["async_error"] = failing.error()
out["error"] = failure(lambda: service.methods.fail())
out["wrong"] = failure(lambda: service.methods.say_hello(1, 2, 3))
print(json.dumps(out))
