"""Gemstone 0.12.0's discovery and RemoteService: gemstone12_found.py REGISTRY PATTERN [URL]

With a URL that is called in the place of what was found.
"""

import json
import sys

from gemstone.client import MethodCall, Notification, RemoteService
from gemstone.discovery import HttpDiscoveryStrategy

REGISTRY, PATTERN = sys.argv[1:3]
registry = HttpDiscoveryStrategy(REGISTRY)
out = {"nobody": registry.locate("no.such.*"), "found": registry.locate(PATTERN)}
service = RemoteService(sys.argv[3] if len(sys.argv) > 3 else out["found"][0])
out["positional"] = service.call_method("say_hello", ["bob"]).result
out["named"] = service.call_method("say_hello", {"name": "bob"}).result
waiting = service.call_method_async("say_hello", ["later"])
out["async"] = waiting.result(wait=True).result
service.notify("say_hello", ["nobody waits"])
out["error"] = service.call_method("fail").error
out["unknown"] = service.call_method("nope").error
batch = service.call_batch(
    MethodCall("say_hello", ["one"]), Notification("say_hello", ["two"]), MethodCall("fail")
)
out["batch"] = [[answer.result, answer.error] for answer in batch]
print(json.dumps(out))
