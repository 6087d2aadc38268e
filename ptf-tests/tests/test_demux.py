"""Demux and bucket: which IPvN router a client's packet goes to."""

import zlib

from dmuxtest import packets as p
from dmuxtest.gateway import ADDRESS, ANY_PROVIDER, CLIENT_SIDE, PROTOCOL, ROUTER_INDEX, ROUTER_SIDE, GatewayTest, \
    from_client, into, out_of, to_router

SET = 0x7FFF0003
MASK = 0xFF


def bucket_of(client: str, mask: int = MASK) -> int:
    return zlib.crc32(p.ipv4_address(client)) & mask


class NoRoute(GatewayTest):
    """What nobody serves is dropped, and the controller gets to see it."""

    def runTest(self):
        for protocol, provider in ((PROTOCOL, 2), (PROTOCOL, 0), (PROTOCOL + 1, ANY_PROVIDER), (0, 0), (0xFFFF, ADDRESS)):
            with self.subTest(protocol=protocol, provider=provider):
                frame = into(CLIENT_SIDE, from_client(b"x", protocol=protocol, provider=provider))
                self.assert_drops(CLIENT_SIDE, frame, "no_route", punted=[self.punt(CLIENT_SIDE, frame, "no_route")])


class NamedProvider(GatewayTest):
    def runTest(self):
        self.insert("demux", {"protocol": PROTOCOL, "provider": 0xCAFE0001}, "to_router", router=5)
        self.insert("router", {"router": 5}, "tunnel", dst="203.0.113.5", dst_port=p.DMUX_PORT)
        self.assert_tunnels(from_client(b"x", provider=0xCAFE0001),
                            to_router(b"x", provider=0xCAFE0001, dst="203.0.113.5", dst_port=p.DMUX_PORT))
        self.assert_tunnels(from_client(b"x"), to_router(b"x"))


class RouterChanges(GatewayTest):
    def runTest(self):
        self.insert("router", {"router": 5}, "tunnel", dst="203.0.113.5", dst_port=1)
        self.modify("demux", {"protocol": PROTOCOL, "provider": ANY_PROVIDER}, "to_router", router=5)
        self.assert_tunnels(from_client(b"x"), to_router(b"x", dst="203.0.113.5", dst_port=1))
        self.modify("router", {"router": 5}, "tunnel", dst="203.0.113.6", dst_port=65535)
        self.assert_tunnels(from_client(b"x"), to_router(b"x", dst="203.0.113.6", dst_port=65535))


class NoRouter(GatewayTest):
    def runTest(self):
        self.delete("router", {"router": ROUTER_INDEX})
        self.assert_client_dropped(from_client(b"x"), "no_router")


class SetOfRouters(GatewayTest):
    """Every bucket of a set has a router of its own here, so that the bucket of each client shows."""

    def runTest(self):
        self.modify("demux", {"protocol": PROTOCOL, "provider": ANY_PROVIDER}, "to_set", set=SET, mask=MASK)
        buckets = range(MASK + 1)
        self.insert_all([self.entry("router", {"router": b}, "tunnel", dst="203.0.113.8", dst_port=1000 + b) for b in buckets])
        self.insert_all([self.entry("bucket", {"set": SET, "bucket": b}, "to_router", router=b) for b in buckets])
        for client in ("10.0.0.1", "10.0.0.2", "10.0.0.255", "172.16.0.1", "1.0.0.1", "8.8.8.8"):
            with self.subTest(client=client):
                self.assert_tunnels(from_client(b"x", src=client),
                                    to_router(b"x", client=client, dst="203.0.113.8", dst_port=1000 + bucket_of(client)))


class SizeOfSet(GatewayTest):
    """A set has as many buckets as its mask says, up to all that 16 bits count."""

    def runTest(self):
        for mask in (0, 1, 0xFFF, 0xFFFF):
            self.modify("demux", {"protocol": PROTOCOL, "provider": ANY_PROVIDER}, "to_set", set=SET + mask, mask=mask)
            for number, client in enumerate(("10.0.0.1", "10.0.0.2", "172.16.0.77")):
                with self.subTest(mask=mask, client=client):
                    bucket = {"set": SET + mask, "bucket": bucket_of(client, mask)}
                    self.insert("router", {"router": number}, "tunnel", dst="203.0.113.8", dst_port=1000 + number)
                    self.insert("bucket", bucket, "to_router", router=number)
                    self.assert_tunnels(from_client(b"x", src=client),
                                        to_router(b"x", client=client, dst="203.0.113.8", dst_port=1000 + number))
                    self.delete("bucket", bucket)
                    self.delete("router", {"router": number})


class BucketIgnoresPorts(GatewayTest):
    """All that a client sends goes to one router, whatever its ports."""

    def runTest(self):
        self.modify("demux", {"protocol": PROTOCOL, "provider": ANY_PROVIDER}, "to_set", set=SET, mask=MASK)
        self.insert("bucket", {"set": SET, "bucket": bucket_of("10.0.0.1")}, "to_router", router=ROUTER_INDEX)
        for port in (1, 1024, 40000, 65535):
            with self.subTest(port=port):
                self.assert_tunnels(from_client(b"x", src_port=port), to_router(b"x", client_port=port))


class NoBucket(GatewayTest):
    def runTest(self):
        self.modify("demux", {"protocol": PROTOCOL, "provider": ANY_PROVIDER}, "to_set", set=SET, mask=MASK)
        bucket = bucket_of("10.0.0.1")
        self.insert("bucket", {"set": SET, "bucket": bucket ^ 1}, "to_router", router=ROUTER_INDEX)
        self.insert("bucket", {"set": SET - 1, "bucket": bucket}, "to_router", router=ROUTER_INDEX)
        self.assert_client_dropped(from_client(b"x"), "no_bucket")


class BucketWithoutARouter(GatewayTest):
    def runTest(self):
        self.modify("demux", {"protocol": PROTOCOL, "provider": ANY_PROVIDER}, "to_set", set=SET, mask=MASK)
        self.insert("bucket", {"set": SET, "bucket": bucket_of("10.0.0.1")}, "to_router", router=404)
        self.assert_client_dropped(from_client(b"x"), "no_router")


class RouterCounts(GatewayTest):
    """A router's counter counts what goes to it, in the size in which it came in."""

    def runTest(self):
        key = {"router": ROUTER_INDEX}
        self.assertEqual(self.direct_count("router", key), (0, 0))
        frame = into(CLIENT_SIDE, from_client(b"counted"))
        for _ in range(3):
            self.assert_sends(CLIENT_SIDE, frame, ROUTER_SIDE, out_of(ROUTER_SIDE, to_router(b"counted")))
        self.assertEqual(self.direct_count("router", key), (3, 3 * len(frame)))
        self.assert_sends(CLIENT_SIDE, into(CLIENT_SIDE, p.datagram("10.0.0.1", "203.0.113.1", 1, 2, b"", ttl=9)), ROUTER_SIDE,
                          out_of(ROUTER_SIDE, p.datagram("10.0.0.1", "203.0.113.1", 1, 2, b"", ttl=8)))
        self.assertEqual(self.direct_count("router", key), (3, 3 * len(frame)))
