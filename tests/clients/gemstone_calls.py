"""Gemstone 0.12.0's RemoteService, with nothing but the URL: gemstone_calls.py URL"""

import json
import sys

from gemstone.client import MethodCall, Notification, RemoteService

URL = sys.argv[1]
service = RemoteService(URL)


def failure(method, params):
    return service.call_method(method, params).error


def result(answer):
    return getattr(answer, "result", answer)


out = {}
out["positional"] = result(service.call_method("subtract", [42, 23]))
out["named"] = result(service.call_method("subtract", {"subtrahend": 23, "minuend": 42}))
out["error"] = failure("fail", [])
out["unknown"] = failure("nope", [])
service.notify("note", ["gemstone"])
batch = service.call_batch(
    MethodCall("add", [1, 2]), Notification("note", ["gemstone"]), MethodCall("add", [3, 4])
)
out["batch"] = [result(answer) for answer in batch]
quiet = service.call_batch(Notification("note", ["gemstone"]))
out["quiet"] = [result(answer) for answer in quiet]
out["after"] = len(result(service.call_method("ran", ["gemstone"])))
print(json.dumps(out))
