"""Events published with Nameko's own standalone dispatcher, of either generation:

    nameko_events.py URL SERVICE EVENT PAYLOAD…

Each PAYLOAD is JSON. Prints how many there were.
"""

import json
import sys

from nameko.standalone.events import event_dispatcher

try:  # Nameko 3
    from nameko.standalone.rpc import ClusterRpcClient  # noqa: F401

    def dispatcher(url):
        return event_dispatcher(uri=url)
except ImportError:  # Nameko 2

    def dispatcher(url):
        return event_dispatcher({"AMQP_URI": url})


def main(url, service, event, *payloads):
    dispatch = dispatcher(url)
    for payload in payloads:
        dispatch(service, event, json.loads(payload))
    print(len(payloads))


main(*sys.argv[1:])
