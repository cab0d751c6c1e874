"""Calls made with Nameko's own standalone client, of either generation:

    nameko_calls.py URL FILE [CONTEXT [TIMEOUT]]

FILE holds a JSON list of [service, method, args, kwargs]; CONTEXT is a JSON object. Prints a JSON list with
a result or what was raised for each.
"""

import json
import sys

try:  # Nameko 3
    from nameko.standalone.rpc import ClusterRpcClient

    def client(url, context, timeout):
        return ClusterRpcClient(context_data=context, timeout=timeout, uri=url)
except ImportError:  # Nameko 2
    from nameko.standalone.rpc import ClusterRpcProxy

    def client(url, context, timeout):
        return ClusterRpcProxy({"AMQP_URI": url}, context_data=context, timeout=timeout)


def outcome(call):
    try:
        return {"result": call()}
    except Exception as raised:
        kind = type(raised)
        told = {"raised": kind.__module__ + "." + kind.__name__, "args": list(raised.args)}
        for name in ("exc_type", "value"):
            if hasattr(raised, name):
                told[name] = getattr(raised, name)
        return {"error": told}


def main(url, file, context="{}", timeout="20"):
    with open(file) as text:
        calls = json.load(text)
    with client(url, json.loads(context), float(timeout)) as rpc:
        outcomes = [
            outcome(lambda: getattr(rpc[service], method)(*args, **kwargs))
            for service, method, args, kwargs in calls
        ]
    print(json.dumps(outcomes))


main(*sys.argv[1:])
