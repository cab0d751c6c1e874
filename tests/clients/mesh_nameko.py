"""Nameko's own standalone client as a process that is told its calls, a JSON object a line:

    mesh_nameko.py HOST:PORT URL

It connects to HOST:PORT. A line is {"n", "service", "method", "params", "context"}; with `forget` nobody asks
for the result. It is answered by {"n", "result"} or {"n", "raised"}.
"""

import json
import socket
import sys

from nameko.standalone.rpc import ClusterRpcProxy

address, url = sys.argv[1:]


def call(proxy, order):
    method = getattr(getattr(proxy, order["service"]), order["method"])
    try:
        if order.get("forget"):
            method.call_async(**order["params"])
            return {"result": "forgotten"}
        return {"result": method(**order["params"])}
    except Exception as raised:
        kind = type(raised)
        told = {"class": kind.__name__, "args": list(raised.args)}
        for name in ("exc_type", "value"):
            if hasattr(raised, name):
                told[name] = getattr(raised, name)
        return {"raised": told}


host, port = address.split(":")
test = socket.create_connection((host, int(port)))
config = {"AMQP_URI": url}
with ClusterRpcProxy(config, timeout=60) as plain:
    for line in test.makefile(encoding="utf-8"):
        order = json.loads(line)
        if order["context"]:
            with ClusterRpcProxy(config, context_data=order["context"], timeout=60) as proxy:
                outcome = call(proxy, order)
        else:
            outcome = call(plain, order)
        test.sendall(json.dumps({"n": order["n"], **outcome}).encode() + b"\n")
