"""An access LAN: discovery, and what passes between its ports untouched."""

from dmuxtest import packets as p
from dmuxtest.access import BROADCAST, FAR, FAR_PORT, LINK, MULTIPOINT, NEAR, NEAR_PORT, PROVISIONED, SHARED_MLI, AccessTest, tagged_frame
from dmuxtest.base_test import ROLE_ACCESS, port_mac
from dmuxtest.gateway import CLIENT_SIDE, ROUTER_SIDE, from_client, into, out_of, to_router, transit_packet

STRANGER = "02:00:00:00:09:09"


def discovery(dst=BROADCAST, src=STRANGER, payload=b"who is there?"):
    return p.ethernet(dst, src, p.ETHER_SUBSTRATE, p.substrate(0, payload))


def shared(metaframe=b"metaframe", mli=SHARED_MLI, *, dst=FAR, src=NEAR):
    return tagged_frame(dst, src, MULTIPOINT, p.ETHER_SUBSTRATE, p.substrate(mli, metaframe))


class Discovery(AccessTest):
    """A host that nobody knows yet asks, tagged or not."""

    def runTest(self):
        for frame in (discovery(), discovery(dst=port_mac(NEAR_PORT)),
                      tagged_frame(BROADCAST, STRANGER, PROVISIONED, p.ETHER_SUBSTRATE, p.substrate(0, b"x")),
                      tagged_frame(BROADCAST, STRANGER, MULTIPOINT, p.ETHER_SUBSTRATE, p.substrate(0, b"x"))):
            with self.subTest(frame=frame.hex()):
                self.assert_punts(NEAR_PORT, frame, "discovery")
        self.assert_drops(NEAR_PORT, discovery(dst=FAR), "not_for_us")
        # A WAN port has no substrate.
        self.assert_drops(CLIENT_SIDE, discovery(dst=port_mac(CLIENT_SIDE)), "unsupported_ethertype")


class DiscoveryIsMetered(AccessTest):
    def runTest(self):
        self.set_meter("punt_meter", self.punt_reasons["discovery"], 1, 2)
        outcome = self.exchange(NEAR_PORT, *[discovery()] * 12)
        passed = len(outcome.punted)
        self.assertIn(passed, range(1, 12))
        self.assertEqual(outcome.drops["punt_rate"][0], 12 - passed)


class EachPortHasItsShareOfDiscovery(AccessTest):
    """A flood of MLI 0 at one port leaves the discoveries of other ports and the other frames of its own port alone."""

    def runTest(self):
        self.set_direct_meter("discovery_port", {"port": NEAR_PORT}, 1, 2)
        outcome = self.exchange(NEAR_PORT, *[discovery()] * 12)
        passed = len(outcome.punted)
        self.assertIn(passed, range(1, 12))
        self.assertEqual(outcome.drops["punt_rate"][0], 12 - passed)
        self.assertEqual(len(self.exchange(FAR_PORT, *[discovery()] * 12).punted), 12)
        frame = p.ethernet(FAR, NEAR, 0x1234, bytes(46))
        self.assert_sends(NEAR_PORT, frame, FAR_PORT, frame)


class DiscoveryAtAPortWithoutAShare(AccessTest):
    def runTest(self):
        self.delete("discovery_port", {"port": NEAR_PORT})
        self.assert_drops(NEAR_PORT, discovery(), "no_port_role")


class LegacyFramesPassUntouched(AccessTest):
    """Whatever they carry: no TTL, checksum or source is anybody's business here."""

    def runTest(self):
        bad = bytearray(transit_packet(ttl=0))
        bad[10] ^= 0xFF
        frames = [p.ethernet(FAR, NEAR, p.ETHER_IPV4, packet) for packet in (
            transit_packet(), bytes(bad), transit_packet(src="198.51.100.7"), transit_packet()[:12], from_client(b"x"))]
        frames += [
            p.ethernet(BROADCAST, NEAR, p.ETHER_ARP, p.arp_request(NEAR, "10.1.0.1", "10.1.0.2")),
            p.ethernet("33:33:00:00:00:01", NEAR, 0x86DD, bytes(60)),
            tagged_frame(FAR, NEAR, 300, p.ETHER_IPV4, transit_packet(), pcp=3),
            tagged_frame(FAR, NEAR, 0, 0x86DD, bytes(60)),
            tagged_frame(FAR, NEAR, 300, p.ETHER_VLAN, p.tagged(5, p.ETHER_IPV4, transit_packet())),
            p.ethernet(FAR, NEAR, 0x0027, bytes(39)),
            p.ethernet(FAR, "03:00:00:00:00:01", 0x1234, bytes(46)),
        ]
        for frame in frames:
            with self.subTest(frame=frame.hex()):
                self.assert_sends(NEAR_PORT, frame, FAR_PORT, frame)


class StationsAreLearnt(AccessTest):
    def setUp(self):
        super().setUp()
        # A third port, so that flooding and forwarding differ.
        self.modify("port_role", {"port": CLIENT_SIDE}, "set_role", role=ROLE_ACCESS, mac=port_mac(CLIENT_SIDE))
        link = {"link": LINK, "flood_group": 12, "gateway": 9, "gateway_addr": "192.0.2.1"}
        self.insert("access_port", {"port": CLIENT_SIDE}, "set_access_link", **link)
        for port in (NEAR_PORT, FAR_PORT):
            self.modify("access_port", {"port": port}, "set_access_link", **link)
        self.add_group(12, NEAR_PORT, FAR_PORT, CLIENT_SIDE)
        self.ask_for_digests("lan_source_t")

    def learnt(self, vid, port):
        return LINK, vid, int(NEAR.replace(":", ""), 16), port

    def runTest(self):
        frame = p.ethernet(FAR, NEAR, 0x1234, bytes(46))
        outcome = self.exchange(NEAR_PORT, frame)
        self.assertEqual({port: frames for port, frames in outcome.sent.items() if frames},
                         {FAR_PORT: [frame], CLIENT_SIDE: [frame]})
        self.digests_until("lan_source_t", self.learnt(0, NEAR_PORT))

        self.insert("lan_forward", {"link": LINK, "vid": 0, "dst": NEAR}, "to_port", port=NEAR_PORT)
        self.insert("lan_forward", {"link": LINK, "vid": 0, "dst": FAR}, "to_port", port=FAR_PORT)
        self.assert_sends(NEAR_PORT, frame, FAR_PORT, frame)
        # What is behind the same port is not sent back.
        self.assert_drops(FAR_PORT, frame, "lan_hairpin")

        # What is known is not told again, on its VLAN and at its port.
        self.insert("lan_source", {"port": NEAR_PORT, "vid": 301, "src": NEAR}, "known_source")
        for vid, port in ((301, NEAR_PORT), (302, NEAR_PORT), (301, FAR_PORT)):
            tagged = tagged_frame(BROADCAST, NEAR, vid, 0x1234, bytes(46))
            outcome = self.exchange(port, tagged)
            self.assertEqual(outcome.sent[CLIENT_SIDE], [tagged])
        told = self.digests_until("lan_source_t", self.learnt(301, FAR_PORT))
        self.assertIn(self.learnt(302, NEAR_PORT), told)
        self.assertNotIn(self.learnt(301, NEAR_PORT), told)


class NotToTheGatewayItself(AccessTest):
    def runTest(self):
        self.assert_drops(NEAR_PORT, tagged_frame(port_mac(NEAR_PORT), NEAR, 300, p.ETHER_IPV4, transit_packet()),
                          "unsupported_ethertype")


class MultipointMetanets(AccessTest):
    """Straight from endpoint to endpoint, or to all; the metanet's MLI is the same for everybody."""

    def runTest(self):
        for frame in (shared(), shared(dst=BROADCAST), shared(src=STRANGER), shared(b"")):
            with self.subTest(frame=frame.hex()):
                self.assert_sends(NEAR_PORT, frame, FAR_PORT, frame)
        self.assert_drops(NEAR_PORT, shared(mli=SHARED_MLI + 1), "unknown_metalink")
        self.assert_drops(NEAR_PORT, tagged_frame(FAR, NEAR, MULTIPOINT, p.ETHER_IPV4, transit_packet()), "bad_substrate")


class AHostThatTunnels(AccessTest):
    """A host of the access LAN without the substrate is a client like any other."""

    def runTest(self):
        self.assert_sends(NEAR_PORT, into(NEAR_PORT, from_client(b"x")), ROUTER_SIDE, out_of(ROUTER_SIDE, to_router(b"x")))
        self.assert_drops(NEAR_PORT, into(NEAR_PORT, from_client(b"x", src="198.51.100.7")), "spoofed_source")


class APortWithoutALink(AccessTest):
    def runTest(self):
        self.delete("access_port", {"port": NEAR_PORT})
        self.assert_drops(NEAR_PORT, p.ethernet(FAR, NEAR, 0x1234, bytes(46)), "no_port_role")
