"""Packet-out: frames of the controller, out of a port or routed."""

from dmuxtest import packets as p
from dmuxtest.base_test import CPU_PORT, WAN_PORTS
from dmuxtest.gateway import CLIENT, FAR_SIDE, GATEWAY, ROUTER, ROUTER_PORT, ROUTER_SIDE, SERVICE, MTU, GatewayTest, \
    from_client, into, out_of, to_router, transit_packet


class OutOfEveryPort(GatewayTest):
    """As it is, whatever it is: the data plane does not look at it."""

    def runTest(self):
        frames = [out_of(1, transit_packet()), out_of(1, transit_packet(header_checksum=0, ttl=0)),
                  into(2, p.arp_request("02:00:00:00:00:01", "10.0.0.1", "10.0.0.2"), p.ETHER_ARP, "ff:ff:ff:ff:ff:ff"),
                  p.ethernet("02:00:00:00:00:09", "02:00:00:00:00:08", 0x88B5, b"\x01"),
                  p.ethernet("02:00:00:00:00:09", "02:00:00:00:00:08", p.ETHER_IPV4, b"\x4f"),
                  out_of(1, transit_packet(bytes(MTU + 100)))]
        for port in WAN_PORTS:
            for frame in frames:
                with self.subTest(port=port, frame=frame[:40].hex()):
                    self.check(self.exchange_packet_out(frame, egress_port=port), sent={port: frame})


class PortThatCannotBe(GatewayTest):
    """Not back to the controller, not the drop port, not a number that only fits after bits are cut off."""

    def runTest(self):
        for port in (CPU_PORT, 511, 512, 512 + WAN_PORTS[0], 65535):
            with self.subTest(port=port):
                self.check(self.exchange_packet_out(out_of(1, transit_packet()), egress_port=port), drops={"no_port_role": 1})


class Routed(GatewayTest):
    """Routed by destination with the TTL that the controller gave it, from an address of our own."""

    def runTest(self):
        for ttl in (1, 64, 255):
            with self.subTest(ttl=ttl):
                packet = p.datagram(GATEWAY, ROUTER, p.DMUX_PORT, ROUTER_PORT, p.shim(p.CONTROL, 0, 0) + b"hello", ttl=ttl)
                self.check(self.exchange_packet_out(into(1, packet), submit=1), sent={ROUTER_SIDE: out_of(ROUTER_SIDE, packet)})


class RoutedWhateverItsMac(GatewayTest):
    def runTest(self):
        packet = p.datagram(SERVICE, CLIENT, p.DMUX_PORT, 5555, p.shim(p.CONTROL, 0, 0))
        frame = p.ethernet("00:00:00:00:00:00", "00:00:00:00:00:00", p.ETHER_IPV4, packet)
        self.check(self.exchange_packet_out(frame, submit=1), sent={1: out_of(1, packet)})


class RoutedIcmp(GatewayTest):
    def runTest(self):
        packet = p.ipv4(GATEWAY, CLIENT, 1, b"\x03\x04" + bytes(40))
        self.check(self.exchange_packet_out(into(1, packet), submit=1), sent={1: out_of(1, packet)})


class RoutedIsNotAServiceRequest(GatewayTest):
    """What the controller sends is never demultiplexed or punted back."""

    def runTest(self):
        packet = p.datagram(GATEWAY, SERVICE, 1, p.DMUX_PORT, p.shim(p.DATA) + b"x")
        self.check(self.exchange_packet_out(into(1, packet), submit=1), drops={"no_service": 1})
        packet = p.datagram(GATEWAY, "198.51.100.2", 1, p.DMUX_PORT, p.shim(p.CONTROL, 0, 0))
        self.check(self.exchange_packet_out(into(1, packet), submit=1), drops={"no_service": 1})


class AsReceived(GatewayTest):
    """A client's packet that the controller sends goes through the tables, even from an address of our own."""

    def runTest(self):
        for client in (GATEWAY, CLIENT):
            packet, expected = from_client(b"x", src=client), to_router(b"x", client=client)
            for frame in (into(1, packet), p.ethernet("00:00:00:00:00:00", "00:00:00:00:00:00", p.ETHER_IPV4, packet)):
                with self.subTest(client=client, frame=frame[:14].hex()):
                    sent = {ROUTER_SIDE: out_of(ROUTER_SIDE, expected)}
                    self.check(self.exchange_packet_out(frame, submit=2), sent=sent)


class AsReceivedButWrong(GatewayTest):
    """And is dropped for the reasons for which a client's would be."""

    def runTest(self):
        cases = {"bad_shim_kind": from_client(b"x", kind=p.FORWARD, src=GATEWAY),
                 "bad_ip_checksum": from_client(b"x", src=GATEWAY, header_checksum=1),
                 "no_service": from_client(b"x", src=GATEWAY, dst="198.51.100.99")}
        for reason, packet in cases.items():
            with self.subTest(reason=reason):
                self.check(self.exchange_packet_out(into(1, packet), submit=2), drops={reason: 1})


class RoutedButBroken(GatewayTest):
    """Dropped and counted like anyone's, and not sent back."""

    def runTest(self):
        whole = into(1, transit_packet())
        cases = {
            "parse_error": whole[:30],
            "unsupported_ethertype": into(1, bytes(40), 0x86DD),
            "bad_ip_checksum": into(1, transit_packet(header_checksum=1)),
            "bad_ip_length": into(1, transit_packet(total_len=500)),
            "ip_options": into(1, transit_packet(options=bytes(4))),
            "no_ipv4_route": into(1, transit_packet(dst="8.8.8.8")),
            "too_big": into(1, transit_packet(bytes(MTU))),
        }
        for reason, frame in cases.items():
            with self.subTest(reason=reason):
                self.check(self.exchange_packet_out(frame, submit=1), drops={reason: 1})


class RoutedExactLength(GatewayTest):
    """The packet_out header is no part of the frame: a length too large by less than it is too large."""

    def runTest(self):
        whole = transit_packet()
        for excess in (1, 4):
            with self.subTest(excess=excess):
                frame = into(1, transit_packet(total_len=len(whole) + excess))
                self.check(self.exchange_packet_out(frame, submit=1), drops={"bad_ip_length": 1})
        self.check(self.exchange_packet_out(into(1, whole), submit=1), sent={ROUTER_SIDE: out_of(ROUTER_SIDE, whole)})


class PortIsIgnoredWhenRouted(GatewayTest):
    def runTest(self):
        packet = transit_packet()
        for port in (FAR_SIDE, 65535):
            with self.subTest(port=port):
                self.check(self.exchange_packet_out(into(1, packet), egress_port=port, submit=1),
                           sent={ROUTER_SIDE: out_of(ROUTER_SIDE, packet)})
