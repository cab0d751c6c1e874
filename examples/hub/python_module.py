#!/usr/bin/env python3
"""A module for Genkan's hub, with Python's standard library alone.

    examples/hub/python_module.py [127.0.0.1:2203 | /run/genkan/hub.sock]

Registers as `python`, declares `greet`, and answers whoever calls `python.greet`:

    genkan call python greet name=you
"""
import itertools
import json
import socket
import sys

address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2203"
hub = socket.socket(socket.AF_UNIX if "/" in address else socket.AF_INET)
host, _, port = address.rpartition(":")
hub.connect(address if "/" in address else (host, int(port)))
serial = itertools.count()


def send(number, **keys):
    frame = {"requestId": f"python-{next(serial)}", "type": number, **keys}
    hub.sendall(json.dumps(frame).encode() + b"\n")


functions = {"greet": lambda name="you": f"Hello, {name}, from python"}
send(1, moduleId="python", version="1.0.0", dependencies={})
for frame in map(json.loads, hub.makefile(encoding="utf-8")):
    if frame["type"] == 8 and frame.get("hook") == "juno.activated":
        for name in functions:
            send(9, function=name)
    elif frame["type"] == 3:
        try:
            answer = functions[frame["function"]](**frame["arguments"])
            send(4, requestId=frame["requestId"], data=answer)
        except Exception as error:
            send(0, requestId=frame["requestId"], error=2, message=repr(error))
    elif frame["type"] == 0:
        print("the hub:", frame.get("message", frame["error"]), file=sys.stderr)
