"""jsonrpclib-pelix 1.2.0, as its README shows it: pelix_calls.py URL"""

import json
import sys

import jsonrpclib

URL = sys.argv[1]
server = jsonrpclib.ServerProxy(URL)

out = {}
out["positional"] = server.shop.subtract(42, 23)
out["named"] = server.shop.subtract(subtrahend=23, minuend=42)
try:
    server.shop.fail()
except jsonrpclib.AppError as error:
    out["error"] = {"code": error.code(), "message": error.message(), "data": error.data()}
except jsonrpclib.ProtocolError as error:
    code, message = error.args[0][:2]
    out["error"] = {"code": code, "message": message, "data": None}
try:
    server.shop.nope()
except jsonrpclib.ProtocolError as error:
    out["unknown"] = error.args[0][0]
out["notification"] = server._notify.shop.note("pelix")
batch = jsonrpclib.MultiCall(server)
batch.shop.add(1, 2)
batch._notify.shop.note("pelix")
batch.shop.add(3, 4)
out["batch"] = list(batch())
quiet = jsonrpclib.MultiCall(server)
quiet._notify.shop.note("pelix")
quiet()
out["after"] = len(server.shop.ran("pelix"))
print(json.dumps(out))
