"""jsonrpc-requests 0.4.0, as its README shows it: jsonrpc_requests_calls.py URL

With exactly one positional argument its method calls fail on Python 3.10 and later
(collections.Mapping), whatever the server does: those go through send_request.
"""

import json
import sys

from jsonrpc_requests import ProtocolError, Server

URL = sys.argv[1]
server = Server(URL)

out = {}
out["positional"] = server.send_request("shop.subtract", False, [42, 23])
out["named"] = server.shop.subtract(subtrahend=23, minuend=42)
try:
    server.shop.fail()
except ProtocolError as error:
    out["error"] = error.server_data["error"]
try:
    server.shop.nope()
except ProtocolError as error:
    out["unknown"] = error.server_data["error"]["code"]
out["notification"] = server.shop.note("jsonrpc-requests", 1, _notification=True)
out["after"] = len(server.send_request("shop.ran", False, ["jsonrpc-requests"]))
print(json.dumps(out))
