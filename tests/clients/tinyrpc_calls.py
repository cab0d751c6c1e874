"""tinyrpc 1.1.7 over HTTP, as its documentation shows it; it sends no Content-Type:
tinyrpc_calls.py URL"""

import json
import sys

from tinyrpc import RPCClient
from tinyrpc.protocols.jsonrpc import JSONRPCProtocol
from tinyrpc.transports.http import HttpPostClientTransport

client = RPCClient(JSONRPCProtocol(), HttpPostClientTransport(sys.argv[1]))
shop = client.get_proxy("shop.")
note = client.get_proxy("shop.", one_way=True)


def fails(method):
    try:
        return getattr(shop, method)()
    except Exception as error:
        raised = error
    # It has no public name for the code.
    code = getattr(raised, "_jsonrpc_error_code", None)
    return {"code": code, "message": str(raised), "data": getattr(raised, "data", None)}


out = {}
out["positional"] = shop.subtract(42, 23)
out["named"] = shop.subtract(subtrahend=23, minuend=42)
out["error"] = fails("fail")
out["unknown"] = fails("nope")["code"]
out["notification"] = note.note("tinyrpc")
out["after"] = len(shop.ran("tinyrpc"))
print(json.dumps(out))
