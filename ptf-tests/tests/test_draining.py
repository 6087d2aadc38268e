"""Buckets of draining routers: who was there stays, who comes goes elsewhere."""

import time

from dmuxtest import packets as p
from dmuxtest.gateway import ANY_PROVIDER, CLIENT_SIDE, PROTOCOL, ROUTER, ROUTER_INDEX, ROUTER_PORT, ROUTER_SIDE, GatewayTest, \
    from_client, into, out_of, to_router

SET = 0x7FFF0100
OTHER = 9
OTHER_PORT = 4001
# Ticks of 2^20 µs.
HOUR = 3600
# Longer than a tick, on the busiest machine.
TICK_PASSES_WITHIN = 20.0


class DrainingTest(GatewayTest):
    """One bucket for all clients, of ROUTER_INDEX, which is about to drain in favour of OTHER."""

    def setUp(self):
        super().setUp()
        self.insert("router", {"router": OTHER}, "tunnel", dst=ROUTER, dst_port=OTHER_PORT)
        self.insert("bucket", {"set": SET, "bucket": 0}, "to_router", router=ROUTER_INDEX)
        self.modify("demux", {"protocol": PROTOCOL, "provider": ANY_PROVIDER}, "to_set", set=SET, mask=0)

    def drain(self, learning, idle=HOUR, leaving=ROUTER_INDEX, router=OTHER):
        self.modify("bucket", {"set": SET, "bucket": 0}, "to_draining", leaving=leaving, router=router, idle=idle,
                    learning=int(learning))

    def assert_goes_to(self, client, dst_port):
        self.assert_tunnels(from_client(b"x", src=client), to_router(b"x", client=client, dst_port=dst_port))

    def goes_to(self, client):
        outcome = self.exchange(CLIENT_SIDE, into(CLIENT_SIDE, from_client(b"x", src=client)))
        frames = {port: out_of(ROUTER_SIDE, to_router(b"x", client=client, dst_port=port)) for port in (ROUTER_PORT, OTHER_PORT)}
        (frame,) = outcome.sent[ROUTER_SIDE]
        return next(port for port, expected in frames.items() if frame == expected)


class PresentClientsStay(DrainingTest):
    def runTest(self):
        self.drain(learning=True)
        for client in ("10.7.0.1", "10.7.0.2"):
            self.assert_goes_to(client, ROUTER_PORT)
        self.drain(learning=False)
        for client, port in (("10.7.0.1", ROUTER_PORT), ("10.7.0.3", OTHER_PORT), ("10.7.0.2", ROUTER_PORT),
                             ("10.7.0.4", OTHER_PORT), ("10.7.0.3", OTHER_PORT), ("10.7.0.1", ROUTER_PORT)):
            with self.subTest(client=client):
                self.assert_goes_to(client, port)
        # Nobody has a second life: what is present at one router is not at another.
        self.insert("router", {"router": 11}, "tunnel", dst=ROUTER, dst_port=OTHER_PORT + 1)
        self.drain(learning=False, leaving=11)
        self.assert_goes_to("10.7.0.1", OTHER_PORT)


class IdleClientsGo(DrainingTest):
    def runTest(self):
        client = "10.7.1.1"
        self.drain(learning=True)
        self.assert_goes_to(client, ROUTER_PORT)
        # Not a tick of silence: the next tick finds it gone, though it sends all the time.
        self.drain(learning=False, idle=0)
        deadline = time.monotonic() + TICK_PASSES_WITHIN
        while self.goes_to(client) == ROUTER_PORT:
            self.assertLess(time.monotonic(), deadline, "the client stays for ever")
        self.drain(learning=False, idle=0)
        self.assert_goes_to(client, OTHER_PORT)


class TheLastOneServes(DrainingTest):
    """A draining router whose successor is gone: its own clients still reach it, the others are counted."""

    def runTest(self):
        self.drain(learning=True)
        self.assert_goes_to("10.7.2.1", ROUTER_PORT)
        self.drain(learning=False)
        self.delete("router", {"router": OTHER})
        self.assert_goes_to("10.7.2.1", ROUTER_PORT)
        self.assert_client_dropped(from_client(b"x", src="10.7.2.2"), "no_router")
