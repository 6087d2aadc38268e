"""Deliver: a client's packet becomes a tunnelled one, byte by byte."""

from dmuxtest import packets as p
from dmuxtest.gateway import CLIENT, CLIENT_PORT, CLIENT_SIDE, GATEWAY, PROTOCOL, ROUTER, ROUTER_PORT, ROUTER_SIDE, SERVICE, \
    SERVICE_INDEX, GatewayTest, from_client, into, out_of, to_router


class WorkedBytesForward(GatewayTest):
    """The bytes that DESIGN 3 gives."""

    def runTest(self):
        ipvn = bytes.fromhex("6000000000003b40")
        packet = p.datagram("10.0.0.1", "198.51.100.1", 5555, 51700, bytes.fromhex("1000002900000001") + ipvn)
        tunnelled = p.datagram("192.0.2.1", "203.0.113.100", 51700, 4000,
                               bytes.fromhex("1100002900000001" "0a00000115b30007") + ipvn, ttl=63)
        self.assert_tunnels(packet, tunnelled)


class PayloadOfEveryLength(GatewayTest):
    def runTest(self):
        for size in (0, 1, 2, 3, 7, 8, 9, 40, 333, 1000):
            with self.subTest(size=size):
                payload = bytes((7 * n + 1) & 0xFF for n in range(size))
                self.assert_tunnels(from_client(payload), to_router(payload))


class NoUdpChecksumStaysNone(GatewayTest):
    def runTest(self):
        for payload in (b"", b"abc"):
            with self.subTest(payload=payload):
                self.assert_tunnels(from_client(payload, udp_checksum=0), to_router(payload, udp_checksum=0))


class UdpChecksumThatComputesToZeroGoingOut(GatewayTest):
    """A computed 0 is sent as 0xFFFF: 0 would say that there is none."""

    def runTest(self):
        head = p.shim(p.FORWARD) + p.origin(CLIENT, CLIENT_PORT, SERVICE_INDEX)
        for tail in (b"", b"tail!"):
            with self.subTest(tail=tail):
                payload = p.steered(GATEWAY, ROUTER, p.DMUX_PORT, ROUTER_PORT, head, tail) + tail
                expected = to_router(payload)
                self.assertEqual(expected[26:28], b"\xff\xff", "the payload steers the checksum")
                self.assert_tunnels(from_client(payload), expected)


class UdpChecksumThatIsAllOnesComingIn(GatewayTest):
    def runTest(self):
        payload = p.steered(CLIENT, SERVICE, CLIENT_PORT, p.DMUX_PORT, p.shim(p.DATA), b"xyz") + b"xyz"
        packet = from_client(payload)
        self.assertEqual(packet[26:28], b"\xff\xff", "the payload steers the checksum")
        self.assert_tunnels(packet, to_router(payload))


class DamageStaysVisible(GatewayTest):
    """An update does not make a wrong checksum right: it stays wrong by as much."""

    def runTest(self):
        payload, damaged = b"payload of even size", b"pAyload of even size"
        right = int.from_bytes(from_client(payload)[26:28], "big")
        outgoing = int.from_bytes(to_router(payload)[26:28], "big")
        self.assert_tunnels(from_client(damaged, udp_checksum=right), to_router(damaged, udp_checksum=outgoing))


class EveryFieldOfTheClientArrives(GatewayTest):
    def runTest(self):
        for client, port in (("10.0.0.254", 1), ("255.255.255.254", 65535), ("1.0.0.0", 0), ("172.31.7.9", 51700)):
            with self.subTest(client=client, port=port):
                self.assert_tunnels(from_client(b"who", src=client, src_port=port),
                                    to_router(b"who", client=client, client_port=port))


class OtherFieldsOfTheHeaderStay(GatewayTest):
    def runTest(self):
        fields = {"tos": 0xB9, "identification": 0, "fragment_flags": 0}
        self.assert_tunnels(from_client(b"x", ttl=255, **fields), to_router(b"x", ttl=254, **fields))
        fields = {"tos": 0xFF, "identification": 0xFFFF, "fragment_flags": 2}
        self.assert_tunnels(from_client(b"x", ttl=2, **fields), to_router(b"x", ttl=1, **fields))


class FlagsOfTheClientAreCleared(GatewayTest):
    """A client cannot pass for a metalink: flag M says how the origin header is to be read."""

    def runTest(self):
        for flags in (0x01, 0x80, 0xFF):
            with self.subTest(flags=flags):
                self.assert_tunnels(from_client(b"x", flags=flags), to_router(b"x"))


class TwoServiceAddresses(GatewayTest):
    """Each service address has its index, and the gateway address that goes with it."""

    def runTest(self):
        self.insert("local_service", {"dst": "198.51.100.9", "protocol": p.UDP, "dst_port": p.DMUX_PORT}, "shim_service",
                    service_index=65535, gateway_addr="192.0.2.9")
        body = p.shim(p.FORWARD) + p.origin(CLIENT, CLIENT_PORT, 65535) + b"x"
        self.assert_tunnels(from_client(b"x", dst="198.51.100.9"),
                            p.datagram("192.0.2.9", ROUTER, p.DMUX_PORT, ROUTER_PORT, body, ttl=63))
        self.assert_tunnels(from_client(b"x"), to_router(b"x"))


class RouterBehindTheClientSide(GatewayTest):
    """A tunnel may leave by the port at which the client's packet came in."""

    def runTest(self):
        self.insert("router", {"router": 5}, "tunnel", dst="10.0.0.77", dst_port=4000)
        self.modify("demux", {"protocol": PROTOCOL, "provider": 1}, "to_router", router=5)
        self.assert_sends(CLIENT_SIDE, into(CLIENT_SIDE, from_client(b"x")), CLIENT_SIDE,
                          out_of(CLIENT_SIDE, to_router(b"x", dst="10.0.0.77")))


class RouterAtOurOwnAddress(GatewayTest):
    def runTest(self):
        self.modify("router", {"router": 70000}, "tunnel", dst=SERVICE, dst_port=4000)
        self.assert_client_dropped(from_client(b"x"), "no_service")


class ManyPacketsInARow(GatewayTest):
    def runTest(self):
        payloads = [bytes([n]) * (n + 1) for n in range(32)]
        outcome = self.exchange(CLIENT_SIDE, *[into(CLIENT_SIDE, from_client(x)) for x in payloads])
        self.assertEqual(outcome.sent[ROUTER_SIDE], [out_of(ROUTER_SIDE, to_router(x)) for x in payloads])
        self.assertEqual(outcome.drops, {})
