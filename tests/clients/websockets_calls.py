"""Python's websockets 17, as its documentation shows it: websockets_calls.py ws://…/api"""

import asyncio
import itertools
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


class Rpc:
    """Many calls in flight on one socket."""

    def __init__(self, socket):
        self.socket = socket
        self.ids = itertools.count()
        self.waiting = {}

    async def listen(self):
        async for message in self.socket:
            answer = json.loads(message)
            first = answer[0] if isinstance(answer, list) else answer
            self.waiting.pop(first["id"]).set_result(answer)

    async def send(self, request, id):
        answer = self.waiting[id] = asyncio.get_running_loop().create_future()
        await self.socket.send(json.dumps(request))
        return await answer

    async def call(self, method, params):
        id = next(self.ids)
        return await self.send({"jsonrpc": "2.0", "id": id, "method": method, "params": params}, id)


async def main(url):
    out = {}
    async with connect(url, ping_interval=0.2) as socket:
        rpc = Rpc(socket)
        listening = asyncio.create_task(rpc.listen())
        out["positional"] = (await rpc.call("shop.subtract", [42, 23]))["result"]
        out["named"] = (await rpc.call("shop.subtract", {"subtrahend": 23, "minuend": 42}))["result"]
        out["error"] = (await rpc.call("shop.fail", []))["error"]
        out["unknown"] = (await rpc.call("shop.nope", []))["error"]["code"]
        note = {"jsonrpc": "2.0", "method": "shop.note", "params": ["websockets"]}
        await socket.send(json.dumps(note))
        batch = [
            {"jsonrpc": "2.0", "id": "a", "method": "shop.add", "params": [1, 2]},
            {"jsonrpc": "2.0", "id": "b", "method": "shop.fail", "params": []},
        ]
        answers = await rpc.send(batch, "a")
        out["batch"] = [answer.get("result", answer.get("error", {}).get("code")) for answer in answers]
        sums = await asyncio.gather(*(rpc.call("shop.add", [n, 1]) for n in range(500)))
        out["sums"] = all(answer["result"] == n + 1 for n, answer in enumerate(sums))
        # Its own pings are answered meanwhile, or it would hang up.
        out["slept"] = (await rpc.call("shop.add", ["a", "b"]))["result"]
        latency = await (await socket.ping())
        out["ponged"] = latency >= 0
        listening.cancel()
    out["closed"] = socket.close_code
    async with connect(url) as socket:
        await socket.send(b"{}")
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            out["binary"] = [closed.rcvd.code, closed.rcvd.reason]
    print(json.dumps(out))


asyncio.run(main(sys.argv[1]))
