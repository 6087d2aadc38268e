"""Admit: port roles, addressing, header checks, spoofed sources."""

from dmuxtest import packets as p
from dmuxtest.base_test import CPU_PORT, ROLE_CPU, ROLE_WAN, port_mac
from dmuxtest.gateway import CLIENT, CLIENT_SIDE, FAR_SIDE, GATEWAY, ROUTER_SIDE, SERVICE, GatewayTest, from_client, into, \
    out_of, to_router, transit_packet


class PortRoleTest(GatewayTest):
    def assert_port_is_closed(self, port):
        frame = into(port, transit_packet())
        outcome = self.exchange_fenceless(port, frame, "no_port_role")
        self.check(outcome, drops={"no_port_role": 1})
        self.assertEqual(outcome.drops["no_port_role"], (1, len(frame)))


class PortWithoutRole(PortRoleTest):
    def runTest(self):
        self.delete("port_role", {"port": FAR_SIDE})
        self.assert_port_is_closed(FAR_SIDE)


class PortOfAnUnknownRole(PortRoleTest):
    def runTest(self):
        self.modify("port_role", {"port": FAR_SIDE}, "set_role", role=77, mac=port_mac(FAR_SIDE))
        self.assert_port_is_closed(FAR_SIDE)


class CpuRoleOfAnotherPort(PortRoleTest):
    def runTest(self):
        self.modify("port_role", {"port": FAR_SIDE}, "set_role", role=ROLE_CPU, mac=port_mac(FAR_SIDE))
        self.assert_port_is_closed(FAR_SIDE)


class FrameForAnotherStation(GatewayTest):
    def runTest(self):
        for dst in ("02:00:00:00:01:99", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", port_mac(ROUTER_SIDE)):
            with self.subTest(dst=dst):
                self.assert_drops(CLIENT_SIDE, into(CLIENT_SIDE, transit_packet(), dst=dst), "not_for_us")


class BroadcastOfAnotherEtherType(GatewayTest):
    def runTest(self):
        self.assert_drops(CLIENT_SIDE, into(CLIENT_SIDE, bytes(46), 0x88B5, "ff:ff:ff:ff:ff:ff"), "not_for_us")


class MulticastArp(GatewayTest):
    def runTest(self):
        self.assert_drops(CLIENT_SIDE, into(CLIENT_SIDE, bytes(46), p.ETHER_ARP, "01:00:5e:00:00:01"), "not_for_us")


class FrameThatEndsWithinAHeader(GatewayTest):
    def runTest(self):
        packet = from_client()
        # Within the IPv4 header, the UDP header, the shim; with nothing after Ethernet.
        for kept in (0, 1, 19, 20, 27, 28, 35):
            with self.subTest(kept=kept):
                self.assert_drops(CLIENT_SIDE, into(CLIENT_SIDE, packet[:kept]), "parse_error")


class BadIpVersion(GatewayTest):
    def runTest(self):
        for version in (0, 5, 6, 15):
            with self.subTest(version=version):
                self.assert_client_dropped(bytes([version << 4 | 5]) + from_client()[1:],
                                           "bad_ip_version")


class BadIpHeaderLength(GatewayTest):
    def runTest(self):
        for ihl in (0, 4):
            with self.subTest(ihl=ihl):
                self.assert_client_dropped(transit_packet(ihl=ihl), "bad_ip_length")


class BadIpTotalLength(GatewayTest):
    def runTest(self):
        whole = len(transit_packet())
        # Shorter than a header, and longer than the frame by one byte and by as much as can be.
        for total_len in (0, 19, whole + 1, 65535):
            with self.subTest(total_len=total_len):
                self.assert_client_dropped(transit_packet(total_len=total_len), "bad_ip_length")


class BadIpChecksum(GatewayTest):
    def runTest(self):
        right = int.from_bytes(transit_packet()[10:12], "big")
        for wrong in (right ^ 1, right ^ 0x8000, 0):
            with self.subTest(wrong=wrong):
                self.assert_client_dropped(transit_packet(header_checksum=wrong), "bad_ip_checksum")


class IpOptions(GatewayTest):
    def runTest(self):
        for options in (b"\x01" * 4, b"\x94\x04\0\0", b"\0" * 40):
            with self.subTest(options=options.hex()):
                self.assert_client_dropped(transit_packet(options=options), "ip_options")
                self.assert_client_dropped(from_client(options=options), "ip_options")


class OptionsThatLookLikeAShim(GatewayTest):
    """A UDP header and a shim in the place of options are options."""

    def runTest(self):
        disguise = p.udp(CLIENT, SERVICE, 1, p.DMUX_PORT, p.shim(p.DATA))
        self.assert_client_dropped(from_client(options=disguise), "ip_options")


class SpoofedSource(GatewayTest):
    def runTest(self):
        for src in (SERVICE, "198.51.100.255", GATEWAY):
            with self.subTest(src=src):
                self.assert_client_dropped(transit_packet(src=src), "spoofed_source")


class SourceGuardLongestPrefix(GatewayTest):
    def runTest(self):
        self.insert("source_guard", {"src": ("10.0.0.0", 8)}, "deny")
        self.insert("source_guard", {"src": ("10.0.0.0", 31)}, "allow")
        self.assert_tunnels(from_client(b"x"), to_router(b"x"))
        self.assert_client_dropped(from_client(b"x", src="10.0.0.2"), "spoofed_source")
        self.insert("source_guard", {"src": (CLIENT, 32)}, "deny")
        self.assert_client_dropped(from_client(b"x"), "spoofed_source")


class SourceGuardWholeInternet(GatewayTest):
    def runTest(self):
        self.insert("source_guard", {"src": ("0.0.0.0", 0)}, "deny")
        self.assert_client_dropped(from_client(b"x"), "spoofed_source")


class SpoofedSourcesAreNotPunted(GatewayTest):
    def runTest(self):
        packet = p.datagram(SERVICE, "198.51.100.2", 5, p.DMUX_PORT, p.shim(p.CONTROL, 0, 0))
        self.assert_client_dropped(packet, "spoofed_source")


class UnsupportedEtherType(GatewayTest):
    def runTest(self):
        for ether_type in (0x86DD, 0x88B5, 0x8847, 46, 0):
            with self.subTest(ether_type=ether_type):
                self.assert_drops(CLIENT_SIDE, into(CLIENT_SIDE, bytes(50), ether_type), "unsupported_ethertype")


class TaggedFrame(GatewayTest):
    """An 802.1Q frame is not an untagged one, whatever network card or kernel lies between."""

    def runTest(self):
        tagged = b"\x00\x05\x08\x00" + from_client()
        self.assert_drops(CLIENT_SIDE, into(CLIENT_SIDE, tagged, 0x8100), "unsupported_ethertype")


class ArpWithoutARule(GatewayTest):
    def runTest(self):
        self.delete("punt", {"ether_type": (p.ETHER_ARP, 0xFFFF)}, priority=10)
        self.assert_drops(CLIENT_SIDE, into(CLIENT_SIDE, bytes(46), p.ETHER_ARP, "ff:ff:ff:ff:ff:ff"), "unsupported_ethertype")


class EthernetPadding(GatewayTest):
    """Padding is no part of the packet and no error; it stays where it was, at the end of the frame."""

    def runTest(self):
        for padding in (bytes(1), bytes(18), b"\xff" * 9):
            with self.subTest(padding=padding.hex()):
                self.assert_sends(CLIENT_SIDE, into(CLIENT_SIDE, from_client() + padding), ROUTER_SIDE,
                                  out_of(ROUTER_SIDE, to_router() + padding))
                self.assert_sends(CLIENT_SIDE, into(CLIENT_SIDE, transit_packet(b"") + padding), ROUTER_SIDE,
                                  out_of(ROUTER_SIDE, transit_packet(b"", ttl=63) + padding))


class CpuPortWithoutItsRole(GatewayTest):
    """The fences of these tests need the CPU port, so its role is taken away and given back in one go."""

    def runTest(self):
        before = self.drop_counts()
        self.modify("port_role", {"port": CPU_PORT}, "set_role", role=ROLE_WAN, mac=0)
        self.packet_out(out_of(CLIENT_SIDE, transit_packet()), egress_port=CLIENT_SIDE)
        reason = self.p4info.enum("DropReason")["no_port_role"]
        self.wait_until(lambda: self.drop_counts().get(reason, (0, 0))[0] == before.get(reason, (0, 0))[0] + 1)
        self.modify("port_role", {"port": CPU_PORT}, "set_role", role=ROLE_CPU, mac=0)
        self.check(self.exchange(CLIENT_SIDE))
