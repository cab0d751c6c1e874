"""A module of the tests: `hub_machine.py HOST PORT NAME` registers as `math`, for as long as that takes,
and answers `math.where` with NAME."""
import json
import socket
import sys
import time

host, port, name = sys.argv[1:]
hub = socket.create_connection((host, int(port)))
lines = hub.makefile(encoding="utf-8")


def send(number, **keys):
    frame = {"requestId": "r", "type": number, **keys}
    hub.sendall(json.dumps(frame).encode() + b"\n")


def register():
    send(1, moduleId="math", version="1.0.0", dependencies={})


register()
for frame in map(json.loads, lines):
    if frame["type"] == 0:
        # The id is held: the hub is asked again, as a module that is restarted would do.
        time.sleep(0.2)
        register()
    elif frame.get("hook") == "juno.activated":
        send(9, function="where")
    elif frame["type"] == 3:
        send(4, requestId=frame["requestId"], data=name)
