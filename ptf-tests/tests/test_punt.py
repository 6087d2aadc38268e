"""Punt: what the controller gets, as it came in, and never more than the meter lets pass."""

from dmuxtest import packets as p
from dmuxtest.gateway import ADDRESS, BYTE, CLIENT, CLIENT_SIDE, GATEWAY, REGISTRATION, ROUTER_SIDE, WORD, GatewayTest, \
    control_packet, from_client, into, neighbour_mac, out_of, port_mac, to_router, transit_packet


def arp(port, dst="ff:ff:ff:ff:ff:ff"):
    body = p.arp_request(neighbour_mac(port), "10.0.0.1", "10.0.0.254")
    return into(port, body, p.ETHER_ARP, dst)


class ControlAtTheRegistrationAddress(GatewayTest):
    def runTest(self):
        for port in (CLIENT_SIDE, ROUTER_SIDE):
            with self.subTest(port=port):
                self.assert_punts(port, into(port, control_packet()), "control")


class ControlAtTheGateway(GatewayTest):
    def runTest(self):
        self.assert_punts(ROUTER_SIDE, into(ROUTER_SIDE, control_packet(dst=GATEWAY)), "control")


class ControlOfAnyLength(GatewayTest):
    """1200 bytes are the most that a control message may have; a longer one is the controller's to refuse."""

    def runTest(self):
        for size in (0, 1, 1200, 1400):
            with self.subTest(size=size):
                self.assert_punts(ROUTER_SIDE, into(ROUTER_SIDE, control_packet(payload=bytes(size))), "control")


class ControlForOthersIsRouted(GatewayTest):
    def runTest(self):
        packets = [control_packet(dst="10.0.0.7", ttl=ttl) for ttl in (64, 63)]
        self.assert_sends(ROUTER_SIDE, into(ROUTER_SIDE, packets[0]), CLIENT_SIDE, out_of(CLIENT_SIDE, packets[1]))


class ControlOfAnotherVersion(GatewayTest):
    def runTest(self):
        packet = p.datagram(CLIENT, GATEWAY, 9, p.DMUX_PORT, p.shim(p.CONTROL, 0, 0, version=2))
        self.assert_client_dropped(packet, "bad_shim_version")


class ControlThatIsMalformed(GatewayTest):
    """Admission comes before punting: what is broken never reaches the controller."""

    def runTest(self):
        self.assert_client_dropped(control_packet(header_checksum=1), "bad_ip_checksum")
        self.assert_client_dropped(control_packet(total_len=2000), "bad_ip_length")


class Arp(GatewayTest):
    def runTest(self):
        self.assert_punts(CLIENT_SIDE, arp(CLIENT_SIDE), "arp")
        self.assert_punts(ROUTER_SIDE, arp(ROUTER_SIDE, port_mac(ROUTER_SIDE)), "arp")


class ArpForAnotherStation(GatewayTest):
    def runTest(self):
        self.assert_drops(CLIENT_SIDE, arp(CLIENT_SIDE, port_mac(ROUTER_SIDE)), "not_for_us")


class PuntedWithPadding(GatewayTest):
    """The frame as it came in, and what comes after the packet too."""

    def runTest(self):
        self.assert_punts(CLIENT_SIDE, arp(CLIENT_SIDE) + bytes(18), "arp")
        self.assert_punts(ROUTER_SIDE, into(ROUTER_SIDE, control_packet() + b"\xff" * 5), "control")


class RuleByEveryField(GatewayTest):
    """A rule on each field alone takes what has the value and leaves what has not."""

    def runTest(self):
        fields = {"ether_type": (p.ETHER_IPV4, WORD), "dst": ("203.0.113.9", ADDRESS), "protocol": (p.UDP, BYTE),
                  "dst_port": (9, WORD), "shim_kind": (0xFF, BYTE), "probe_type": (0, BYTE)}
        frame = into(CLIENT_SIDE, transit_packet())
        for name, (value, mask) in fields.items():
            with self.subTest(field=name):
                match = {name: (value, mask)}
                self.insert("punt", match, "punt", priority=500, reason=self.punt_reasons["control"])
                self.assert_punts(CLIENT_SIDE, frame, "control")
                self.delete("punt", match, priority=500)
        # Nothing in the frame has these values.
        others = {"dst": ("203.0.113.8", ADDRESS), "protocol": (6, BYTE), "dst_port": (7, WORD), "shim_kind": (0, BYTE),
                  "probe_type": (1, BYTE)}
        for name, match in others.items():
            self.insert("punt", {name: match}, "punt", priority=500, reason=self.punt_reasons["control"])
        self.assert_sends(CLIENT_SIDE, frame, ROUTER_SIDE, out_of(ROUTER_SIDE, transit_packet(ttl=63)))


class RuleWithAMask(GatewayTest):
    def runTest(self):
        self.insert("punt", {"dst": ("203.0.113.8", 0xFFFFFFFC)}, "punt", priority=5, reason=self.punt_reasons["control"])
        self.assert_punts(CLIENT_SIDE, into(CLIENT_SIDE, transit_packet(dst="203.0.113.11")), "control")
        self.assert_sends(CLIENT_SIDE, into(CLIENT_SIDE, transit_packet(dst="203.0.113.12")), ROUTER_SIDE,
                          out_of(ROUTER_SIDE, transit_packet(dst="203.0.113.12", ttl=63)))


class HigherPriorityWins(GatewayTest):
    def runTest(self):
        reasons = self.punt_reasons
        self.insert("punt", {"protocol": (p.UDP, BYTE)}, "punt", priority=20, reason=reasons["control"])
        self.insert("punt", {"dst_port": (9, WORD)}, "punt", priority=21, reason=reasons["arp"])
        frame = into(CLIENT_SIDE, transit_packet())
        self.assert_punts(CLIENT_SIDE, frame, "arp")
        self.delete("punt", {"dst_port": (9, WORD)}, priority=21)
        self.insert("punt", {"dst_port": (9, WORD)}, "punt", priority=19, reason=reasons["arp"])
        self.assert_punts(CLIENT_SIDE, frame, "control")


class MeterOfAReason(GatewayTest):
    """More than the burst in a row: some pass, the others count as punt_rate, none is lost in between."""

    BURST, SENT = 5, 60

    def runTest(self):
        self.set_meter("punt_meter", self.punt_reasons["arp"], rate=1, burst=self.BURST)
        outcome = self.exchange(CLIENT_SIDE, *[arp(CLIENT_SIDE)] * self.SENT)
        dropped = outcome.drops.get("punt_rate", (0, 0))[0]
        self.assertEqual(set(outcome.drops), {"punt_rate"})
        self.assertEqual(len(outcome.punted) + dropped, self.SENT)
        self.assertGreaterEqual(len(outcome.punted), self.BURST)
        self.assertGreater(dropped, 0)
        # The other reasons have meters of their own.
        self.assert_punts(ROUTER_SIDE, into(ROUTER_SIDE, control_packet()), "control")


class MeterOfWhatIsDroppedAnyway(GatewayTest):
    """A packet counts under the reason for which it was dropped, whether or not the controller gets it."""

    BURST, SENT = 5, 60

    def runTest(self):
        self.set_meter("punt_meter", self.punt_reasons["ttl_expired"], rate=1, burst=self.BURST)
        outcome = self.exchange(CLIENT_SIDE, *[into(CLIENT_SIDE, transit_packet(ttl=1))] * self.SENT)
        self.assertEqual({k: v[0] for k, v in outcome.drops.items()}, {"ttl_expired": self.SENT})
        self.assertGreaterEqual(len(outcome.punted), self.BURST)
        self.assertLess(len(outcome.punted), self.SENT)


class MeterLetsForwardingAlone(GatewayTest):
    def runTest(self):
        for reason in self.punt_reasons.values():
            if reason:
                self.set_meter("punt_meter", reason, rate=1, burst=1)
        payloads = [bytes([n]) for n in range(20)]
        outcome = self.exchange(CLIENT_SIDE, *[into(CLIENT_SIDE, from_client(x)) for x in payloads])
        self.assertEqual(outcome.sent[ROUTER_SIDE], [out_of(ROUTER_SIDE, to_router(x)) for x in payloads])
        self.assertEqual(outcome.drops, {})


class RegistrationPort(GatewayTest):
    """Another UDP port of the registration address is not dmux."""

    def runTest(self):
        packet = p.datagram(CLIENT, REGISTRATION, 1, p.DMUX_PORT - 1, p.shim(p.CONTROL, 0, 0))
        self.assert_client_dropped(packet, "no_service")
