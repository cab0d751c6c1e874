"""A NATS micro service as the README of nats-py makes it, with an error whose code is a word.

NATS_URL names the server. Prints "ready" once the server knows of all of it.
"""

import asyncio
import os

import nats
import nats.micro


async def echo(request):
    await request.respond(request.data)


async def fail(request):
    await request.respond_error("E42", "out of numbers", data=b"see the manual")


async def main():
    nc = await nats.connect(os.environ["NATS_URL"])
    service = await nats.micro.add_service(
        nc, name="demo_service", version="1.0.0", description="Demo service"
    )
    await service.add_endpoint(name="echo", handler=echo)
    group = service.add_group(name="greetings")
    await group.add_endpoint(name="fail", handler=fail)
    await nc.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
