"""Metalinks: what an endpoint sends and gets, by every combination of ways; and what it must not."""

from dmuxtest import packets as p
from dmuxtest.access import FAR, FAR_CELL, FAR_MLI, FAR_PORT, GATEWAY_ID, METALINK_MTU, MULTIPOINT, NEAR, NEAR_CELL, \
    NEAR_CONTROL_MLI, NEAR_MLI, NEAR_PORT, AccessTest, downward, metalink_to_router, mli_address, tagged_frame, upward
from dmuxtest.base_test import port_mac
from dmuxtest.gateway import CLIENT, CLIENT_PORT, CLIENT_SIDE, PROTOCOL, ROUTER_SIDE, SERVICE_INDEX, from_client, from_router, into, \
    out_of, to_client, transit_packet
from zlib import crc32

import struct

SHIM = 1


def router_frame(metaframe, origin, *, kind=p.FORWARD, flags=0, protocol=PROTOCOL, provider=1):
    """What follows the substrate header between the gateway and a router on a metalink."""
    return p.shim(kind, protocol, provider, flags=flags) + origin + metaframe


NEAR_ORIGIN = p.origin(mli_address(NEAR_MLI), GATEWAY_ID, 0)
TUNNEL_ORIGIN = p.origin(CLIENT, CLIENT_PORT, SERVICE_INDEX)


def return_to_near(metaframe, **changes):
    return from_router(metaframe, **{"flags": 1, "client": mli_address(NEAR_MLI), "client_port": GATEWAY_ID,
                                     "service_index": 0, **changes})


class ToATunnelledRouter(AccessTest):
    def runTest(self):
        for size in (0, 1, 46, 1200, METALINK_MTU):
            with self.subTest(size=size):
                metaframe = bytes(n % 251 for n in range(size))
                self.assert_sends(NEAR_PORT, upward(metaframe), ROUTER_SIDE, out_of(ROUTER_SIDE, metalink_to_router(metaframe)))


class FromATunnelledRouter(AccessTest):
    def runTest(self):
        for size in (0, 1, 46, METALINK_MTU):
            with self.subTest(size=size):
                metaframe = bytes(n % 251 for n in range(size))
                self.assert_sends(ROUTER_SIDE, into(ROUTER_SIDE, return_to_near(metaframe)), NEAR_PORT, downward(metaframe))
        # A datagram without a checksum, and one that has come to the end of its life: this was its last hop.
        for changes in ({"udp_checksum": 0}, {"ttl": 1}):
            with self.subTest(changes=changes):
                self.assert_sends(ROUTER_SIDE, into(ROUTER_SIDE, return_to_near(b"x", **changes)), NEAR_PORT, downward(b"x"))


class ARouterOnAMetalinkAndATunnelledClient(AccessTest):
    def runTest(self):
        self.make_far_a_router()
        self.assert_sends(CLIENT_SIDE, into(CLIENT_SIDE, from_client(b"hello")), FAR_PORT,
                          downward(router_frame(b"hello", TUNNEL_ORIGIN), FAR_MLI, dst=FAR, port=FAR_PORT, flags=SHIM))
        answer = router_frame(b"world", TUNNEL_ORIGIN, kind=p.RETURN)
        self.assert_sends(FAR_PORT, upward(answer, FAR_MLI, src=FAR, port=FAR_PORT, flags=SHIM), CLIENT_SIDE,
                          out_of(CLIENT_SIDE, to_client(b"world", udp_checksum=0, identification=0)))


class BothOnMetalinks(AccessTest):
    def runTest(self):
        self.make_far_a_router()
        self.assert_sends(NEAR_PORT, upward(b"hello"), FAR_PORT,
                          downward(router_frame(b"hello", NEAR_ORIGIN, flags=1), FAR_MLI, dst=FAR, port=FAR_PORT, flags=SHIM))
        answer = router_frame(b"world", NEAR_ORIGIN, kind=p.RETURN, flags=1)
        self.assert_sends(FAR_PORT, upward(answer, FAR_MLI, src=FAR, port=FAR_PORT, flags=SHIM), NEAR_PORT, downward(b"world"))


class AnEndpointHasABucket(AccessTest):
    """Its MLI is what a client's address is otherwise."""

    def runTest(self):
        bucket = crc32(struct.pack("!I", NEAR_MLI)) & 15
        self.modify("demux", {"protocol": PROTOCOL, "provider": 1}, "to_set", set=5, mask=15)
        self.insert("router", {"router": 3}, "tunnel", dst="203.0.113.3", dst_port=4003)
        self.assert_drops(NEAR_PORT, upward(b"x"), "no_bucket")
        self.insert("bucket", {"set": 5, "bucket": bucket}, "to_router", router=3)
        self.assert_sends(NEAR_PORT, upward(b"x"), ROUTER_SIDE,
                          out_of(ROUTER_SIDE, metalink_to_router(b"x", dst="203.0.113.3", dst_port=4003)))


class WhatAMetalinkDoesNotTake(AccessTest):
    """Each is dropped under its reason, and nobody's metalink is the poorer for it."""

    def runTest(self):
        near, far = {"endpoint": 1, "mli": NEAR_MLI}, {"endpoint": 70000, "mli": FAR_MLI}
        before = self.direct_count("metalink_rx", near), self.direct_count("metalink_rx", far)
        for name, port, frame, reason in (
                ("unknown MLI", NEAR_PORT, upward(mli=0x0A0B0C), "unknown_metalink"),
                ("somebody else's MLI", NEAR_PORT, upward(mli=FAR_MLI), "unknown_metalink"),
                ("wrong port", FAR_PORT, upward(port=FAR_PORT), "unknown_endpoint"),
                ("spoofed address of another port", NEAR_PORT, upward(mli=FAR_MLI, src=FAR), "unknown_endpoint"),
                ("unknown address", NEAR_PORT, upward(src="02:00:00:00:09:09"), "unknown_endpoint"),
                ("untagged", NEAR_PORT, p.ethernet(port_mac(NEAR_PORT), NEAR, p.ETHER_SUBSTRATE, p.substrate(NEAR_MLI, b"x")),
                 "wrong_vlan"),
                ("another VLAN", NEAR_PORT, upward(vid=300), "wrong_vlan"),
                ("the multipoint VLAN", NEAR_PORT, upward(vid=MULTIPOINT), "unknown_metalink"),
                ("to another endpoint", NEAR_PORT, upward(dst=FAR), "not_for_us"),
                ("to everybody", NEAR_PORT, upward(dst="ff:ff:ff:ff:ff:ff"), "not_for_us"),
                ("not of the substrate", NEAR_PORT, tagged_frame(port_mac(NEAR_PORT), NEAR, 100, p.ETHER_IPV4, transit_packet()),
                 "bad_substrate"),
                ("another version", NEAR_PORT, upward(version=2), "bad_substrate"),
                ("version 0", NEAR_PORT, upward(version=0), "bad_substrate"),
                ("cut in the header", NEAR_PORT, upward(b"")[:-2], "parse_error"),
        ):
            with self.subTest(name):
                self.assert_drops(port, frame, reason)
        self.assertEqual((self.direct_count("metalink_rx", near), self.direct_count("metalink_rx", far)), before)


class WhatARouterOnAMetalinkDoesNotGetThrough(AccessTest):
    def runTest(self):
        answer = router_frame(b"x", TUNNEL_ORIGIN, kind=p.RETURN)
        far = {"src": FAR, "port": FAR_PORT, "flags": SHIM}
        # Not registered.
        self.assert_drops(FAR_PORT, upward(answer, FAR_MLI, **far), "unregistered_returner")
        self.make_far_a_router()
        for name, metaframe, reason in (
                ("another protocol", router_frame(b"x", TUNNEL_ORIGIN, kind=p.RETURN, protocol=PROTOCOL + 1),
                 "unregistered_returner"),
                ("another kind", router_frame(b"x", TUNNEL_ORIGIN, kind=p.FORWARD), "bad_shim_kind"),
                ("data", router_frame(b"x", b"", kind=p.DATA), "bad_shim_kind"),
                ("another version", p.shim(p.RETURN, version=2) + TUNNEL_ORIGIN, "bad_shim_kind"),
                ("unknown service", router_frame(b"x", p.origin(CLIENT, CLIENT_PORT, 99), kind=p.RETURN), "bad_service_index"),
        ):
            with self.subTest(name):
                self.assert_drops(FAR_PORT, upward(metaframe, FAR_MLI, **far), reason)


class ReturnsThatReachNoMetalink(AccessTest):
    def runTest(self):
        before = self.direct_count("metalink_tx", {"gateway": GATEWAY_ID, "mli": NEAR_MLI, "protocol": PROTOCOL})
        self.insert("return_source", {"src": "203.0.113.7", "src_port": 7, "protocol": PROTOCOL + 1}, "accept_return")
        for name, packet, reason in (
                ("unknown MLI", return_to_near(b"x", client="0.9.9.9"), "unknown_metalink"),
                ("another gateway's", return_to_near(b"x", client_port=GATEWAY_ID + 1), "unknown_metalink"),
                ("by a router of another metanet", return_to_near(b"x", src="203.0.113.7", src_port=7, protocol=PROTOCOL + 1),
                 "unknown_metalink"),
                ("by nobody's router", return_to_near(b"x", src="203.0.113.8"), "unregistered_returner"),
                ("without the flag: that is no client's address", return_to_near(b"x", flags=0), "bad_service_index"),
        ):
            with self.subTest(name):
                self.assert_router_dropped(packet, reason)
        self.assertEqual(self.direct_count("metalink_tx", {"gateway": GATEWAY_ID, "mli": NEAR_MLI, "protocol": PROTOCOL}), before)


class NobodyHasTheAddressOfAMetalink(AccessTest):
    def runTest(self):
        self.make_far_a_router()
        self.assert_client_dropped(from_client(b"x", src=mli_address(NEAR_MLI)), "spoofed_source")
        self.assert_router_dropped(from_router(b"x", src=mli_address(FAR_MLI), src_port=GATEWAY_ID), "spoofed_source")


class TooLongForAMetalink(AccessTest):
    def runTest(self):
        long = bytes(METALINK_MTU + 1)
        packet = return_to_near(long, fragment_flags=0)
        frame = into(ROUTER_SIDE, packet)
        # What is told is the longest packet from the router that would have fitted: IPv4, UDP, shim and origin around it.
        self.assert_drops(ROUTER_SIDE, frame, "too_big",
                          punted=[self.punt(ROUTER_SIDE, frame, "too_big", path_mtu=METALINK_MTU + 44)])
        self.make_far_a_router()
        fits = METALINK_MTU - 16
        self.assert_sends(CLIENT_SIDE, into(CLIENT_SIDE, from_client(bytes(fits))), FAR_PORT,
                          downward(router_frame(bytes(fits), TUNNEL_ORIGIN), FAR_MLI, dst=FAR, port=FAR_PORT, flags=SHIM))
        frame = into(CLIENT_SIDE, from_client(bytes(fits + 1)))
        self.assert_drops(CLIENT_SIDE, frame, "too_big",
                          punted=[self.punt(CLIENT_SIDE, frame, "too_big", path_mtu=fits + 36)])
        # Nobody is told of what came by a metalink.
        self.assert_drops(NEAR_PORT, upward(bytes(fits + 1)), "too_big")


class NoRouteIsNotPunted(AccessTest):
    def runTest(self):
        self.delete("demux", {"protocol": PROTOCOL, "provider": 1})
        self.assert_drops(NEAR_PORT, upward(b"x"), "no_route")


class Upstream(AccessTest):
    """One byte a second, after a burst of two frames of 62 bytes. Each test has a cell, and so a time of its last report."""

    CELL = NEAR_CELL
    POLICE = 1

    def setUp(self):
        super().setUp()
        self.near = {"endpoint": 1, "mli": NEAR_MLI}
        self.modify("metalink_rx", self.near, "metalink", protocol=PROTOCOL, provider=1, cell=self.CELL, police=self.POLICE)
        self.frame = upward(bytes(40))
        self.tunnelled = out_of(ROUTER_SIDE, metalink_to_router(bytes(40)))
        self.before = self.cell("metalink_rx_red", self.CELL)
        self.ask_for_digests("violation_t")

    def reds(self):
        packets, size = self.cell("metalink_rx_red", self.CELL)
        return packets - self.before[0], size - self.before[1]

    def assert_reported(self):
        self.digests_until("violation_t", (self.CELL, NEAR_MLI, NEAR_PORT))


class OutOfProfileIsDropped(Upstream):
    def runTest(self):
        self.set_direct_meter("metalink_rx", self.near, 1, 2 * len(self.frame) + 10)
        outcome = self.exchange(NEAR_PORT, *[self.frame] * 4)
        self.assertEqual(outcome.sent[ROUTER_SIDE], [self.tunnelled] * 2)
        self.assertEqual(outcome.drops, {"metalink_rate": (2, 2 * len(self.frame))})
        self.assertEqual(self.reds(), (2, 2 * len(self.frame)))
        self.assert_reported()
        # Another metalink is as good as before.
        self.assert_sends(FAR_PORT, upward(b"x", FAR_MLI, src=FAR, port=FAR_PORT), ROUTER_SIDE,
                          out_of(ROUTER_SIDE, metalink_to_router(b"x", FAR_MLI)))


class OutOfProfileIsOnlyReported(Upstream):
    CELL = 16383
    POLICE = 0

    def runTest(self):
        self.set_direct_meter("metalink_rx", self.near, 1, 2 * len(self.frame) + 10)
        outcome = self.exchange(NEAR_PORT, *[self.frame] * 4)
        self.assertEqual(outcome.sent[ROUTER_SIDE], [self.tunnelled] * 4)
        self.assertEqual(outcome.drops, {})
        self.assertEqual(self.reds(), (2, 2 * len(self.frame)))
        self.assert_reported()


class ReportsAreNoFlood(Upstream):
    """One in about a second, however much is out of profile."""

    CELL = 0

    def runTest(self):
        self.set_direct_meter("metalink_rx", self.near, 1, 10)
        for _ in range(10):
            self.exchange(NEAR_PORT, *[self.frame] * 20)
        self.assertEqual(self.reds()[0], 200)
        # Whatever is reported of it has been when another's report comes.
        self.insert_all([self.rx(1, 7, 8)])
        self.set_direct_meter("metalink_rx", {"endpoint": 1, "mli": 7}, 1, 10)
        self.exchange(NEAR_PORT, upward(bytes(40), 7))
        reports = self.digests_until("violation_t", (8, 7, NEAR_PORT))
        self.assertIn(reports.count((self.CELL, NEAR_MLI, NEAR_PORT)), range(1, 100))


class Downstream(AccessTest):
    def runTest(self):
        frame = into(ROUTER_SIDE, return_to_near(bytes(40)))
        before = self.cell("metalink_tx_red", NEAR_CELL)
        self.set_direct_meter("metalink_tx", {"gateway": GATEWAY_ID, "mli": NEAR_MLI, "protocol": PROTOCOL}, 1, 2 * len(frame) + 10)
        outcome = self.exchange(ROUTER_SIDE, *[frame] * 4)
        self.assertEqual(outcome.sent[NEAR_PORT], [downward(bytes(40))] * 2)
        self.assertEqual(outcome.drops, {"metalink_rate": (2, 2 * len(frame))})
        self.assertEqual(self.cell("metalink_tx_red", NEAR_CELL), (before[0] + 2, before[1] + 2 * len(frame)))
        self.assertEqual(self.cell("metalink_tx_red", FAR_CELL), (0, 0))


class ControlMli(AccessTest):
    def runTest(self):
        frame = upward(b"connect", NEAR_CONTROL_MLI)
        self.assert_punts(NEAR_PORT, frame, "metalink_control")
        self.assert_drops(FAR_PORT, upward(b"x", NEAR_CONTROL_MLI, src=FAR, port=FAR_PORT), "unknown_metalink")
        self.set_direct_meter("metalink_rx", {"endpoint": 1, "mli": NEAR_CONTROL_MLI}, 1, len(frame) + 10)
        outcome = self.exchange(NEAR_PORT, *[frame] * 4)
        self.assertEqual(len(outcome.punted), 1)
        self.assertEqual(outcome.drops, {"metalink_rate": (3, 3 * len(frame))})
