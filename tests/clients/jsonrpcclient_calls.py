"""jsonrpcclient 4.0.3 over requests, as its documentation shows it: jsonrpcclient_calls.py URL"""

import json
import sys

import requests
from jsonrpcclient import Error, Ok, notification, parse, request

URL = sys.argv[1]
session = requests.Session()


def send(payload):
    return session.post(URL, json=payload)


def call(method, params=None):
    return parse(send(request(method, params=params)).json())


out = {}
out["positional"] = call("shop.subtract", [42, 23]).result
out["named"] = call("shop.subtract", {"subtrahend": 23, "minuend": 42}).result
error = call("shop.fail")
assert isinstance(error, Error), error
out["error"] = {"code": error.code, "message": error.message, "data": error.data}
out["unknown"] = call("shop.nope").code
out["notification"] = send(notification("shop.note", params=["jsonrpcclient"])).text
batch = parse(send([request("shop.add", params=[1, 2]), request("shop.fail")]).json())
out["batch"] = [item.result if isinstance(item, Ok) else item.code for item in batch]
out["after"] = len(call("shop.ran", ["jsonrpcclient"]).result)
print(json.dumps(out))
