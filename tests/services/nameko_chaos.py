"""A real Nameko service for the tests of what happens when things break: it tells in its log what it runs, as
`ran TOKEN`, and answers with the token of the call.

    nameko run nameko_chaos --broker URI
"""

import eventlet
from nameko.rpc import rpc


class Chaos:
    name = "chaos"

    @rpc
    def echo(self, token):
        print("ran " + token, flush=True)
        return {"token": token}

    @rpc
    def later(self, token):
        print("ran " + token, flush=True)
        eventlet.sleep(0.15)
        return {"token": token}
