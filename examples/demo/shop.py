"""The demo's Python side: an ordinary Nameko service. It knows RabbitMQ and nothing of Genkan."""
from nameko.events import EventDispatcher
from nameko.rpc import rpc

PRICES = {"S": 15, "M": 18, "L": 20}
taken = {}  # Nameko makes a new `Orders` for every call: what lasts is kept here


class Orders:
    name = "orders"
    dispatch = EventDispatcher()

    @rpc
    def create(self, id, size):
        """Takes an order. Any integer will do as an id: Python and Genkan keep them all exact."""
        if size not in PRICES:
            raise ValueError(f"no size {size}: choose one of {', '.join(PRICES)}")
        taken[id] = size
        order = {"id": id, "size": size, "price": PRICES[size]}
        self.dispatch("created", order)  # whoever handles `orders.created` hears of it
        return order

    @rpc
    def total(self):
        return {"orders": len(taken), "sum": sum(PRICES[size] for size in taken.values())}
