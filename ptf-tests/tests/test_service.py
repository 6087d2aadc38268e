"""Service: which of the gateway's services a packet is for, and what is wrong with it."""

from dmuxtest import packets as p
from dmuxtest.gateway import CLIENT, CLIENT_PORT, CLIENT_SIDE, GATEWAY, PEER, ROUTER, ROUTER_PORT, ROUTER_SIDE, SERVICE, \
    GatewayTest, from_client, from_router, into, out_of, probe_packet, to_router, transit_packet


class UdpLengthDisagrees(GatewayTest):
    """The UDP length of what a service takes is what the IPv4 header leaves for it, no more and no less."""

    def runTest(self):
        right = 8 + 8 + 20
        for length in (right + 1, right - 1, right + 300, 16, 65535):
            with self.subTest(length=length):
                self.assert_client_dropped(from_client(bytes(20), length=length), "bad_udp_length")


class UdpTooShortForAShim(GatewayTest):
    def runTest(self):
        for size in range(8):
            with self.subTest(size=size):
                self.assert_client_dropped(p.datagram(CLIENT, SERVICE, 9, p.DMUX_PORT, p.shim(p.DATA)[:size]),
                                           "bad_udp_length")


class UdpLengthBelowItsHeader(GatewayTest):
    def runTest(self):
        for length in (0, 7, 8, 15):
            with self.subTest(length=length):
                self.assert_client_dropped(from_client(bytes(20), length=length), "bad_udp_length")


class ReturnTooShortForAnOrigin(GatewayTest):
    def runTest(self):
        for size in (0, 1, 7):
            with self.subTest(size=size):
                body = p.shim(p.RETURN) + p.origin(CLIENT, 1, 7)[:size]
                self.assert_router_dropped(p.datagram(ROUTER, GATEWAY, ROUTER_PORT, p.DMUX_PORT, body), "bad_udp_length")


class ShimVersion(GatewayTest):
    def runTest(self):
        for version in (0, 2, 15):
            with self.subTest(version=version):
                self.assert_client_dropped(from_client(b"x", version=version), "bad_shim_version")
                body = p.shim(p.RETURN, version=version) + p.origin(CLIENT, 1, 7)
                self.assert_router_dropped(p.datagram(ROUTER, GATEWAY, ROUTER_PORT, p.DMUX_PORT, body), "bad_shim_version")


class ShimKindAtTheServiceAddress(GatewayTest):
    def runTest(self):
        for kind in range(1, 16):
            with self.subTest(kind=kind):
                self.assert_client_dropped(from_client(bytes(28), kind), "bad_shim_kind")


class ShimKindAtTheGatewayAddress(GatewayTest):
    def runTest(self):
        # 2 is a return, 4 is punted, 5 is a probe.
        for kind in [0, 1, 3] + list(range(6, 16)):
            with self.subTest(kind=kind):
                self.assert_router_dropped(from_router(b"x", kind), "bad_shim_kind")


class ControlAtTheGatewayWithoutARule(GatewayTest):
    def runTest(self):
        self.delete_entry(self.control_rule(GATEWAY))
        self.assert_router_dropped(from_router(b"x", p.CONTROL), "bad_shim_kind")


class NothingListens(GatewayTest):
    """Our own addresses, at a port, a protocol or an address where there is no service."""

    def runTest(self):
        shim = p.shim(p.DATA)
        packets = [
            p.datagram(CLIENT, SERVICE, CLIENT_PORT, p.DMUX_PORT + 1, shim),
            p.datagram(CLIENT, SERVICE, p.DMUX_PORT, 53, shim),
            p.datagram(CLIENT, "198.51.100.77", CLIENT_PORT, p.DMUX_PORT, shim),
            p.ipv4(CLIENT, SERVICE, 6, p.udp(CLIENT, SERVICE, CLIENT_PORT, p.DMUX_PORT, shim)),
            p.ipv4(CLIENT, GATEWAY, 1, b"\x08\0\xf7\xff\0\0\0\0"),
            p.ipv4(CLIENT, GATEWAY, 6, bytes(20)),
        ]
        for packet in packets:
            with self.subTest(packet=packet.hex()):
                self.assert_client_dropped(packet, "no_service")


class ReturnForAMetalink(GatewayTest):
    """Flag M says that the origin is a metalink, and this one is not there: not even where a route would take the packet elsewhere."""

    def runTest(self):
        self.assert_router_dropped(from_router(b"x", flags=0x01), "unknown_metalink")
        self.delete("ipv4_route", {"dst": (GATEWAY, 32)})
        self.assert_router_dropped(from_router(b"x", flags=0x01), "unknown_metalink")

class ReservedFlagsAreIgnored(GatewayTest):
    def runTest(self):
        self.assert_tunnels(from_client(b"x", flags=0xFF), to_router(b"x"))


class FragmentsForAService(GatewayTest):
    def runTest(self):
        whole = from_client(bytes(64))[20:]
        fragments = [
            p.ipv4(CLIENT, SERVICE, p.UDP, whole[:40], fragment_flags=1),
            p.ipv4(CLIENT, SERVICE, p.UDP, whole[40:], fragment_flags=0, offset=5),
            p.ipv4(CLIENT, SERVICE, p.UDP, whole[40:48], fragment_flags=1, offset=5),
            p.ipv4(CLIENT, GATEWAY, p.UDP, whole[40:], fragment_flags=0, offset=8191),
        ]
        for packet in fragments:
            with self.subTest(packet=packet.hex()):
                self.assert_client_dropped(packet, "fragment")


class FragmentThatLooksLikeAShim(GatewayTest):
    """A later fragment whose payload is a UDP header and a shim is a fragment."""

    def runTest(self):
        body = p.udp(CLIENT, SERVICE, CLIENT_PORT, p.DMUX_PORT, p.shim(p.CONTROL, 0, 0))
        self.assert_client_dropped(p.ipv4(CLIENT, SERVICE, p.UDP, body, fragment_flags=0, offset=1), "fragment")


class TransitFragments(GatewayTest):
    def runTest(self):
        for flags, offset in ((1, 0), (1, 3), (0, 4)):
            for body in (bytes(8), bytes(24), p.udp(CLIENT, "203.0.113.9", 5, p.DMUX_PORT, p.shim(p.RETURN))):
                with self.subTest(fragment_flags=flags, offset=offset, body=body.hex()):
                    packets = [p.ipv4(CLIENT, "203.0.113.9", p.UDP, body, fragment_flags=flags, offset=offset, ttl=ttl)
                               for ttl in (64, 63)]
                    self.assert_sends(CLIENT_SIDE, into(CLIENT_SIDE, packets[0]), ROUTER_SIDE,
                                      out_of(ROUTER_SIDE, packets[1]))


class TransitOfTheDmuxPort(GatewayTest):
    """Datagrams for other hosts' dmux port are routed as they are, however short or odd."""

    def runTest(self):
        bodies = [p.shim(kind)[:size] for kind in (p.DATA, p.RETURN, p.PROBE) for size in range(9)]
        bodies += [p.shim(p.RETURN) + bytes(n) for n in (1, 7, 8, 9)]
        bodies += [p.shim(p.PROBE) + bytes(n) for n in (1, 27, 28, 29)]
        bodies += [p.shim(p.DATA, version=9) + b"x"]
        for body in bodies:
            with self.subTest(body=body.hex()):
                packets = [p.datagram(CLIENT, ROUTER, CLIENT_PORT, p.DMUX_PORT, body, ttl=ttl) for ttl in (64, 63)]
                self.assert_sends(CLIENT_SIDE, into(CLIENT_SIDE, packets[0]), ROUTER_SIDE, out_of(ROUTER_SIDE, packets[1]))


class BadProbe(GatewayTest):
    def runTest(self):
        packets = [probe_packet(type_) for type_ in (0, 3, 255)]
        packets += [probe_packet(extra=b"\0")]
        packets += [p.datagram(PEER, GATEWAY, p.DMUX_PORT, p.DMUX_PORT, p.shim(p.PROBE, 0, 0) + bytes(n)) for n in (0, 27)]
        for packet in packets:
            with self.subTest(packet=packet.hex()):
                self.assert_router_dropped(packet, "bad_probe")


class TransitIsNotTouched(GatewayTest):
    def runTest(self):
        packets = [transit_packet(b"odd", ttl=ttl, tos=0xB8, identification=0xBEEF, fragment_flags=0) for ttl in (255, 254)]
        self.assert_sends(CLIENT_SIDE, into(CLIENT_SIDE, packets[0]), ROUTER_SIDE, out_of(ROUTER_SIDE, packets[1]))
