"""Return: an IPvN router's packet reaches the client, byte by byte, and only a registered router may send it."""

from dmuxtest import packets as p
from dmuxtest.gateway import CLIENT, CLIENT_PORT, PROTOCOL, ROUTER, ROUTER_PORT, ROUTER_SIDE, SERVICE, GatewayTest, \
    from_router, into, out_of, to_client


class WorkedBytesReturn(GatewayTest):
    """The bytes that DESIGN 3 gives."""

    def runTest(self):
        reply = bytes.fromhex("60000000003a40")
        packet = p.datagram("203.0.113.100", "192.0.2.1", 4000, 51700,
                            bytes.fromhex("1200002900000001" "0a00000415b30007") + reply)
        delivered = p.datagram("198.51.100.1", "10.0.0.4", 51700, 5555, bytes.fromhex("1300002900000001") + reply, ttl=63)
        self.assert_returns(packet, delivered)


class ReturnOfEveryLength(GatewayTest):
    def runTest(self):
        for size in (0, 1, 2, 3, 7, 8, 9, 40, 333, 1000):
            with self.subTest(size=size):
                payload = bytes((11 * n + 3) & 0xFF for n in range(size))
                self.assert_returns(from_router(payload), to_client(payload))


class ReturnWithoutUdpChecksum(GatewayTest):
    def runTest(self):
        for payload in (b"", b"abc"):
            with self.subTest(payload=payload):
                self.assert_returns(from_router(payload, udp_checksum=0), to_client(payload, udp_checksum=0))


class ReturnWhoseUdpChecksumComputesToZero(GatewayTest):
    def runTest(self):
        payload = p.steered(SERVICE, CLIENT, p.DMUX_PORT, CLIENT_PORT, p.shim(p.DELIVER), b"odd") + b"odd"
        expected = to_client(payload)
        self.assertEqual(expected[26:28], b"\xff\xff", "the payload steers the checksum")
        self.assert_returns(from_router(payload), expected)


class ReturnedDamageStaysVisible(GatewayTest):
    def runTest(self):
        right = int.from_bytes(from_router(b"abcd")[26:28], "big")
        outgoing = int.from_bytes(to_client(b"abcd")[26:28], "big")
        self.assert_returns(from_router(b"Abcd", udp_checksum=right), to_client(b"Abcd", udp_checksum=outgoing))


class ReturnFlagsAreCleared(GatewayTest):
    def runTest(self):
        # Bit 0 is M and another matter.
        self.assert_returns(from_router(b"x", flags=0xFE), to_client(b"x"))


class ReturnWithPadding(GatewayTest):
    def runTest(self):
        self.assert_sends(ROUTER_SIDE, into(ROUTER_SIDE, from_router() + bytes(10)), 1, out_of(1, to_client() + bytes(10)))


class ReturnKeepsProtocolAndProvider(GatewayTest):
    def runTest(self):
        self.insert("return_source", {"src": ROUTER, "src_port": ROUTER_PORT, "protocol": 0xFFFF}, "accept_return")
        self.assert_returns(from_router(b"x", protocol=0xFFFF, provider=0xFFFFFFFF),
                            to_client(b"x", protocol=0xFFFF, provider=0xFFFFFFFF))


class UnregisteredReturner(GatewayTest):
    """Address, port and protocol must all be registered ones."""

    def runTest(self):
        packets = [from_router(b"x", src="203.0.113.101"), from_router(b"x", src_port=ROUTER_PORT + 1),
                   from_router(b"x", protocol=PROTOCOL + 1)]
        for packet in packets:
            with self.subTest(packet=packet.hex()):
                self.assert_router_dropped(packet, "unregistered_returner")


class DeregisteredReturner(GatewayTest):
    def runTest(self):
        self.assert_returns(from_router(b"x"), to_client(b"x"))
        self.delete("return_source", {"src": ROUTER, "src_port": ROUTER_PORT, "protocol": PROTOCOL})
        self.assert_router_dropped(from_router(b"x"), "unregistered_returner")


class BadServiceIndex(GatewayTest):
    def runTest(self):
        for index in (0, 6, 8, 65535):
            with self.subTest(index=index):
                self.assert_router_dropped(from_router(b"x", service_index=index), "bad_service_index")


class ServiceSourceOfItsOwnPort(GatewayTest):
    def runTest(self):
        self.insert("service_source", {"service_index": 8}, "set_service_source", src="198.51.100.9", src_port=9999)
        expected = p.datagram("198.51.100.9", CLIENT, 9999, CLIENT_PORT, p.shim(p.DELIVER) + b"x", ttl=63)
        self.assert_returns(from_router(b"x", service_index=8), expected)


class ReturnToOurOwnAddress(GatewayTest):
    """The answer to what the controller has sent as if a client had: the controller gets it, as it came."""

    def runTest(self):
        for client in (SERVICE, "192.0.2.1"):
            with self.subTest(client=client):
                self.assert_punts(ROUTER_SIDE, into(ROUTER_SIDE, from_router(b"x", client=client)), "return")


class UnregisteredReturnToOurOwnAddress(GatewayTest):
    def runTest(self):
        self.assert_router_dropped(from_router(b"x", client="192.0.2.1", src_port=ROUTER_PORT + 1), "unregistered_returner")


class ReturnToNowhere(GatewayTest):
    def runTest(self):
        self.assert_router_dropped(from_router(b"x", client="240.0.0.1"), "no_ipv4_route")


class ReturnSourceCounts(GatewayTest):
    def runTest(self):
        key = {"src": ROUTER, "src_port": ROUTER_PORT, "protocol": PROTOCOL}
        self.assertEqual(self.direct_count("return_source", key), (0, 0))
        frame = into(ROUTER_SIDE, from_router(b"x"))
        self.exchange(ROUTER_SIDE, frame, frame)
        self.assertEqual(self.direct_count("return_source", key), (2, 2 * len(frame)))
