"""Route: longest prefix, next hops, ECMP, TTL and MTU."""

import struct
import zlib

from dmuxtest import packets as p
from dmuxtest.gateway import CLIENT_SIDE, FAR_SIDE, GATEWAY_SIDE, MTU, PEER, REGISTRATION, ROUTER_SIDE, GatewayTest, \
    from_client, from_router, into, out_of, to_client, to_router, transit_packet


def flow_hash(packet: bytes, ports=True) -> int:
    """The low 16 bits of the CRC-32 over addresses, protocol and ports, as the packet came in."""
    return zlib.crc32(packet[12:20] + packet[9:10] + (packet[20:24] if ports else bytes(4))) & 0xFFFF


class LongestPrefix(GatewayTest):
    def runTest(self):
        self.insert_all([self.nexthop(FAR_SIDE, FAR_SIDE)])
        self.insert("ipv4_route", {"dst": ("0.0.0.0", 0)}, "via", nexthop=FAR_SIDE)
        self.insert("ipv4_route", {"dst": ("203.0.0.0", 8)}, "via", nexthop=FAR_SIDE)
        self.insert("ipv4_route", {"dst": ("203.0.113.128", 25)}, "via", nexthop=GATEWAY_SIDE)
        self.insert("ipv4_route", {"dst": ("203.0.113.200", 32)}, "via", nexthop=FAR_SIDE)
        ways = {"8.8.8.8": FAR_SIDE, "203.0.112.1": FAR_SIDE, "203.0.113.127": ROUTER_SIDE, "203.0.113.128": GATEWAY_SIDE,
                "203.0.113.200": FAR_SIDE, "203.0.113.201": GATEWAY_SIDE, "255.255.255.255": FAR_SIDE}
        for dst, port in ways.items():
            with self.subTest(dst=dst):
                self.assert_sends(CLIENT_SIDE, into(CLIENT_SIDE, transit_packet(dst=dst)), port,
                                  out_of(port, transit_packet(dst=dst, ttl=63)))


class OtherProtocols(GatewayTest):
    def runTest(self):
        for protocol, body in ((1, b"\x08\0\xf7\xff\0\0\0\0"), (6, bytes(20)), (17, p.udp("10.0.0.9", "203.0.113.9", 1, 2, b"")),
                               (41, b""), (255, b"?")):
            with self.subTest(protocol=protocol):
                packets = [p.ipv4("10.0.0.9", "203.0.113.9", protocol, body, ttl=ttl) for ttl in (64, 63)]
                self.assert_sends(CLIENT_SIDE, into(CLIENT_SIDE, packets[0]), ROUTER_SIDE, out_of(ROUTER_SIDE, packets[1]))


class NoIpv4Route(GatewayTest):
    def runTest(self):
        self.assert_client_dropped(transit_packet(dst="8.8.8.8"), "no_ipv4_route")


class NoRouteToTheRouter(GatewayTest):
    def runTest(self):
        self.delete("ipv4_route", {"dst": ("203.0.113.0", 24)})
        self.assert_client_dropped(from_client(b"x"), "no_ipv4_route")


class NoNexthop(GatewayTest):
    def runTest(self):
        self.insert("ipv4_route", {"dst": ("8.0.0.0", 8)}, "via", nexthop=404)
        self.assert_client_dropped(transit_packet(dst="8.8.8.8"), "no_nexthop")
        self.delete("nexthop", {"nexthop": ROUTER_SIDE})
        self.assert_client_dropped(from_client(b"x"), "no_nexthop")


class Ecmp(GatewayTest):
    """Four next hops that differ by MAC; each flow takes the one that its hash says, always."""

    FIRST = 100

    def setUp(self):
        super().setUp()
        self.insert_all([
            self.entry("nexthop", {"nexthop": self.FIRST + n}, "set_nexthop", port=FAR_SIDE, src_mac="02:00:00:00:03:00",
                       dst_mac=f"02:00:00:00:04:{n:02x}", mtu=MTU) for n in range(4)])
        self.insert("ipv4_route", {"dst": ("8.0.0.0", 8)}, "via_group", first=self.FIRST, mask=3)

    def assert_takes(self, port, packet, expected, member):
        frame = p.ethernet(f"02:00:00:00:04:{member:02x}", "02:00:00:00:03:00", p.ETHER_IPV4, expected)
        self.assert_sends(port, into(port, packet), FAR_SIDE, frame)

    def runTest(self):
        members = set()
        for src_port in range(1, 25):
            packets = [transit_packet(dst="8.8.8.8", src_port=src_port, ttl=ttl) for ttl in (64, 63)]
            member = flow_hash(packets[0]) & 3
            members.add(member)
            self.assert_takes(CLIENT_SIDE, packets[0], packets[1], member)
        self.assertEqual(members, {0, 1, 2, 3}, "the flows of this test use all members")


class EcmpOfFragments(Ecmp):
    """All fragments of a datagram take one way: their ports do not count."""

    def runTest(self):
        body = p.udp("10.0.0.9", "8.8.8.8", 1, 2, bytes(40))
        for identification in (1, 2):
            for flags, offset, part in ((1, 0, body[:24]), (0, 3, body[24:])):
                packets = [p.ipv4("10.0.0.9", "8.8.8.8", p.UDP, part, fragment_flags=flags, offset=offset, ttl=ttl,
                                  identification=identification) for ttl in (64, 63)]
                self.assert_takes(CLIENT_SIDE, packets[0], packets[1], flow_hash(packets[0], ports=False) & 3)


class EcmpOfOtherProtocols(Ecmp):
    def runTest(self):
        for dst in ("8.8.8.8", "8.8.4.4", "8.1.2.3"):
            packets = [p.ipv4("10.0.0.9", dst, 6, b"\x12\x34\x56\x78" + bytes(16), ttl=ttl) for ttl in (64, 63)]
            self.assert_takes(CLIENT_SIDE, packets[0], packets[1], flow_hash(packets[0], ports=False) & 3)


class EcmpOfTunnels(Ecmp):
    """A tunnelled packet is hashed as it came in, so that clients spread though their tunnel is one flow."""

    def runTest(self):
        self.modify("router", {"router": 70000}, "tunnel", dst="8.8.8.8", dst_port=4000)
        for port in range(1, 9):
            packet = from_client(b"x", src_port=port)
            self.assert_takes(CLIENT_SIDE, packet, to_router(b"x", client_port=port, dst="8.8.8.8"), flow_hash(packet) & 3)


class EcmpOfOne(Ecmp):
    def runTest(self):
        self.modify("ipv4_route", {"dst": ("8.0.0.0", 8)}, "via_group", first=self.FIRST + 2, mask=0)
        packets = [transit_packet(dst="8.8.8.8", ttl=ttl) for ttl in (64, 63)]
        self.assert_takes(CLIENT_SIDE, packets[0], packets[1], 2)


class EcmpMemberWithoutNexthop(Ecmp):
    def runTest(self):
        packet = transit_packet(dst="8.8.8.8")
        self.delete("nexthop", {"nexthop": self.FIRST + (flow_hash(packet) & 3)})
        self.assert_client_dropped(packet, "no_nexthop")


class TtlExpired(GatewayTest):
    """On every path on which a packet would be routed; the controller gets it to answer it."""

    def runTest(self):
        for ttl in (0, 1):
            for port, packet in ((CLIENT_SIDE, transit_packet(ttl=ttl)), (CLIENT_SIDE, from_client(b"x", ttl=ttl)),
                                 (ROUTER_SIDE, from_router(b"x", ttl=ttl))):
                with self.subTest(ttl=ttl, packet=packet.hex()):
                    frame = into(port, packet)
                    self.assert_drops(port, frame, "ttl_expired", punted=[self.punt(port, frame, "ttl_expired")])


class LastTtl(GatewayTest):
    def runTest(self):
        self.assert_sends(CLIENT_SIDE, into(CLIENT_SIDE, transit_packet(ttl=2)), ROUTER_SIDE,
                          out_of(ROUTER_SIDE, transit_packet(ttl=1)))
        self.assert_tunnels(from_client(b"x", ttl=2), to_router(b"x", ttl=1))
        self.assert_returns(from_router(b"x", ttl=2), to_client(b"x", ttl=1))


class TtlOfWhatEndsHere(GatewayTest):
    """Only what would be routed expires."""

    def runTest(self):
        self.assert_client_dropped(transit_packet(dst="198.51.100.99", ttl=1), "no_service")
        self.assert_client_dropped(transit_packet(dst="8.8.8.8", ttl=1), "no_ipv4_route")


class TooBig(GatewayTest):
    """The controller is told how much would have fitted: the next hop's MTU less what the gateway adds."""

    def assert_too_big(self, port, packet, path_mtu):
        frame = into(port, packet)
        self.assert_drops(port, frame, "too_big", punted=[self.punt(port, frame, "too_big", path_mtu=path_mtu)])

    def runTest(self):
        headers = 28
        shim, origin = 8, 8
        fits = bytes(MTU - headers)
        self.assert_sends(CLIENT_SIDE, into(CLIENT_SIDE, transit_packet(fits)), ROUTER_SIDE,
                          out_of(ROUTER_SIDE, transit_packet(fits, ttl=63)))
        self.assert_too_big(CLIENT_SIDE, transit_packet(fits + b"x"), MTU)
        self.assert_too_big(CLIENT_SIDE, transit_packet(fits + bytes(500), fragment_flags=0), MTU)

        fits = bytes(MTU - headers - shim - origin)
        self.assert_tunnels(from_client(fits), to_router(fits))
        self.assert_too_big(CLIENT_SIDE, from_client(fits + b"x"), MTU - origin)
        self.assert_too_big(CLIENT_SIDE, from_client(fits + bytes(8)), MTU - origin)

        fits = bytes(MTU - headers - shim)
        self.assert_returns(from_router(fits), to_client(fits))
        self.assert_too_big(ROUTER_SIDE, from_router(fits + b"x"), MTU + origin)


class TooBigIsNotAboutPadding(GatewayTest):
    def runTest(self):
        packets = [transit_packet(bytes(MTU - 28), ttl=ttl) for ttl in (64, 63)]
        self.assert_sends(CLIENT_SIDE, into(CLIENT_SIDE, packets[0] + bytes(9)), ROUTER_SIDE,
                          out_of(ROUTER_SIDE, packets[1] + bytes(9)))


class MtuOfItsOwn(GatewayTest):
    def runTest(self):
        self.modify("nexthop", {"nexthop": ROUTER_SIDE}, "set_nexthop", port=ROUTER_SIDE, src_mac="02:00:00:00:01:02",
                    dst_mac="02:00:00:00:02:02", mtu=600)
        self.assert_tunnels(from_client(bytes(556)), to_router(bytes(556)))
        frame = into(CLIENT_SIDE, from_client(bytes(557)))
        self.assert_drops(CLIENT_SIDE, frame, "too_big", punted=[self.punt(CLIENT_SIDE, frame, "too_big", path_mtu=592)])


class LargestMtu(GatewayTest):
    """The arithmetic does not wrap where lengths have 16 bits."""

    def runTest(self):
        for side, mac in ((CLIENT_SIDE, 1), (ROUTER_SIDE, 2)):
            self.modify("nexthop", {"nexthop": side}, "set_nexthop", port=side, src_mac=f"02:00:00:00:01:0{mac}",
                        dst_mac=f"02:00:00:00:02:0{mac}", mtu=65535)
        self.assert_tunnels(from_client(bytes(2000)), to_router(bytes(2000)))
        self.assert_returns(from_router(bytes(2000)), to_client(bytes(2000)))


class TtlBeforeMtu(GatewayTest):
    def runTest(self):
        frame = into(CLIENT_SIDE, transit_packet(bytes(MTU), ttl=1))
        self.assert_drops(CLIENT_SIDE, frame, "ttl_expired", punted=[self.punt(CLIENT_SIDE, frame, "ttl_expired")])


class RegistrationAddressForOthers(GatewayTest):
    """What is not a control message ends at the registration address."""

    def runTest(self):
        self.assert_client_dropped(from_client(b"x", dst=REGISTRATION), "no_service")


class HeaderChecksumAfterRouting(GatewayTest):
    """Identifications that make the header checksum come out at the ends of its range."""

    def runTest(self):
        for wanted in (0x0000, 0x0001, 0x00FF, 0xFF00, 0xFFFE):
            # The checksum of the routed header with identification 0 tells what to put there.
            base = transit_packet(identification=0, ttl=63)
            now = struct.unpack("!H", base[10:12])[0]
            identification = p.ones_complement_sum(struct.pack("!HH", now, ~wanted & 0xFFFF))
            packets = [transit_packet(identification=identification, ttl=ttl) for ttl in (64, 63)]
            with self.subTest(wanted=hex(wanted)):
                self.assertEqual(packets[1][10:12], struct.pack("!H", wanted), "the identification steers the checksum")
                self.assert_sends(CLIENT_SIDE, into(CLIENT_SIDE, packets[0]), ROUTER_SIDE, out_of(ROUTER_SIDE, packets[1]))


class ToAnotherGateway(GatewayTest):
    """What is addressed to a peer is routed, whatever its kind: only our own address is ours."""

    def runTest(self):
        body = p.shim(p.RETURN) + p.origin("10.0.0.1", 1, 7)
        packets = [p.datagram("203.0.113.100", PEER, 4000, p.DMUX_PORT, body, ttl=ttl) for ttl in (64, 63)]
        self.assert_sends(ROUTER_SIDE, into(ROUTER_SIDE, packets[0]), GATEWAY_SIDE, out_of(GATEWAY_SIDE, packets[1]))
