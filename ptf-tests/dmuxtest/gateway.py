"""A configured gateway, the frames that reach it and what becomes of them.

    clients 10.0.0.0/24     ── port 1 ─┐
    routers 203.0.113.0/24  ── port 2 ─┤ gateway 192.0.2.1, service 198.51.100.1, registration 198.51.100.2
    gateways 192.0.2.0/24   ── port 3 ─┤
    (no routes)             ── port 4 ─┘
"""

from dmuxtest import packets as p
from dmuxtest.base_test import CPU_PORT, FENCE_REASON, FENCE_TYPE, ROLE_CPU, ROLE_WAN, WAN_PORTS, SwitchTest, \
    neighbour_mac, port_mac

CLIENT = "10.0.0.1"
CLIENT_PORT = 5555
GATEWAY = "192.0.2.1"
PEER = "192.0.2.2"
SERVICE = "198.51.100.1"
REGISTRATION = "198.51.100.2"
ROUTER = "203.0.113.100"
ROUTER_PORT = 4000

PROTOCOL = 41
ANY_PROVIDER = 1
SERVICE_INDEX = 7
ROUTER_INDEX = 70000
MTU = 1500

CLIENT_SIDE, ROUTER_SIDE, GATEWAY_SIDE, FAR_SIDE = WAN_PORTS


def into(port: int, packet: bytes, ether_type=p.ETHER_IPV4, dst=None) -> bytes:
    """The frame in which a neighbour hands a packet to the gateway's port."""
    return p.ethernet(dst or port_mac(port), neighbour_mac(port), ether_type, packet)


def out_of(port: int, packet: bytes) -> bytes:
    """The frame in which the gateway hands a packet to the neighbour at the port."""
    return p.ethernet(neighbour_mac(port), port_mac(port), p.ETHER_IPV4, packet)


def from_client(payload=b"", kind=p.DATA, *, protocol=PROTOCOL, provider=ANY_PROVIDER, flags=0, version=1, src=CLIENT,
                src_port=CLIENT_PORT, dst=SERVICE, **udp_and_ip) -> bytes:
    """A client's packet at the service address."""
    body = p.shim(kind, protocol, provider, flags=flags, version=version) + payload
    return p.datagram(src, dst, src_port, p.DMUX_PORT, body, **udp_and_ip)


def to_router(payload=b"", *, protocol=PROTOCOL, provider=ANY_PROVIDER, client=CLIENT, client_port=CLIENT_PORT,
              service_index=SERVICE_INDEX, dst=ROUTER, dst_port=ROUTER_PORT, ttl=63, **udp_and_ip) -> bytes:
    """The same packet as the gateway tunnels it."""
    body = p.shim(p.FORWARD, protocol, provider) + p.origin(client, client_port, service_index) + payload
    return p.datagram(GATEWAY, dst, p.DMUX_PORT, dst_port, body, ttl=ttl, **udp_and_ip)


def from_router(payload=b"", kind=p.RETURN, *, protocol=PROTOCOL, provider=ANY_PROVIDER, flags=0, client=CLIENT,
                client_port=CLIENT_PORT, service_index=SERVICE_INDEX, src=ROUTER, src_port=ROUTER_PORT,
                **udp_and_ip) -> bytes:
    """An IPvN router's packet for a client, at the gateway's own address."""
    body = p.shim(kind, protocol, provider, flags=flags) + p.origin(client, client_port, service_index) + payload
    return p.datagram(src, GATEWAY, src_port, p.DMUX_PORT, body, **udp_and_ip)


def to_client(payload=b"", *, protocol=PROTOCOL, provider=ANY_PROVIDER, client=CLIENT, client_port=CLIENT_PORT, ttl=63,
              **udp_and_ip) -> bytes:
    """The same packet as the gateway delivers it."""
    body = p.shim(p.DELIVER, protocol, provider) + payload
    return p.datagram(SERVICE, client, p.DMUX_PORT, client_port, body, ttl=ttl, **udp_and_ip)


def probe_packet(type_=p.PROBE_REQUEST, *, src=PEER, dst=GATEWAY, src_port=p.DMUX_PORT, dst_port=p.DMUX_PORT, times=(0, 0, 0),
                 flags=0, reserved=(0, 0), extra=b"", **udp_and_ip) -> bytes:
    body = p.shim(p.PROBE, 0, 0, flags=flags) + p.probe(type_, 3, 0x4D, *times, reserved=reserved) + extra
    return p.datagram(src, dst, src_port, dst_port, body, **udp_and_ip)


def control_packet(dst=REGISTRATION, payload=b"\x0a\x03abc", src=ROUTER, src_port=ROUTER_PORT, **udp_and_ip) -> bytes:
    body = p.shim(p.CONTROL, 0, 0) + payload
    return p.datagram(src, dst, src_port, p.DMUX_PORT, body, **udp_and_ip)


def transit_packet(payload=b"transit", src="10.0.0.9", dst="203.0.113.9", src_port=7, dst_port=9, **udp_and_ip) -> bytes:
    return p.datagram(src, dst, src_port, dst_port, payload, **udp_and_ip)


# What ternary entries match on in whole.
BYTE, WORD, ADDRESS = 0xFF, 0xFFFF, 0xFFFFFFFF


class GatewayTest(SwitchTest):
    """A test that starts from the gateway above. Entries that a test does not want it deletes or modifies."""

    def setUp(self):
        super().setUp()
        e = self.entry
        entries = [e("port_role", {"port": CPU_PORT}, "set_role", role=ROLE_CPU, mac=0)]
        entries += [e("port_role", {"port": n}, "set_role", role=ROLE_WAN, mac=port_mac(n)) for n in WAN_PORTS]
        entries += [
            e("punt", {"ether_type": (FENCE_TYPE, WORD)}, "punt", priority=1000, reason=FENCE_REASON),
            e("punt", {"ether_type": (p.ETHER_ARP, WORD)}, "punt", priority=10, reason=self.punt_reasons["arp"]),
            self.control_rule(REGISTRATION),
            self.control_rule(GATEWAY),
            e("punt", {"dst": (GATEWAY, ADDRESS), "protocol": (p.UDP, BYTE), "dst_port": (p.DMUX_PORT, WORD),
                       "shim_kind": (p.PROBE, BYTE), "probe_type": (p.PROBE_REPLY, BYTE)}, "punt", priority=10,
              reason=self.punt_reasons["probe_reply"]),
            e("source_guard", {"src": ("198.51.100.0", 24)}, "deny"),
            e("source_guard", {"src": (GATEWAY, 32)}, "deny"),
            e("local_service", {"dst": SERVICE, "protocol": p.UDP, "dst_port": p.DMUX_PORT}, "shim_service",
              service_index=SERVICE_INDEX, gateway_addr=GATEWAY),
            e("local_service", {"dst": GATEWAY, "protocol": p.UDP, "dst_port": p.DMUX_PORT}, "gateway_service"),
            e("service_source", {"service_index": SERVICE_INDEX}, "set_service_source", src=SERVICE, src_port=p.DMUX_PORT),
            e("probe_peer", {"src": PEER}, "known_peer"),
            e("demux", {"protocol": PROTOCOL, "provider": ANY_PROVIDER}, "to_router", router=ROUTER_INDEX),
            e("router", {"router": ROUTER_INDEX}, "tunnel", dst=ROUTER, dst_port=ROUTER_PORT),
            e("return_source", {"src": ROUTER, "src_port": ROUTER_PORT, "protocol": PROTOCOL}, "accept_return"),
            e("ipv4_route", {"dst": ("10.0.0.0", 24)}, "via", nexthop=CLIENT_SIDE),
            e("ipv4_route", {"dst": ("203.0.113.0", 24)}, "via", nexthop=ROUTER_SIDE),
            e("ipv4_route", {"dst": ("192.0.2.0", 24)}, "via", nexthop=GATEWAY_SIDE),
            e("ipv4_route", {"dst": ("198.51.100.0", 24)}, "drop_local"),
            e("ipv4_route", {"dst": (GATEWAY, 32)}, "drop_local"),
        ]
        entries += [self.nexthop(n, n) for n in (CLIENT_SIDE, ROUTER_SIDE, GATEWAY_SIDE)]
        self.insert_all(entries)

    def control_rule(self, dst):
        match = {"dst": (dst, ADDRESS), "protocol": (p.UDP, BYTE), "dst_port": (p.DMUX_PORT, WORD),
                 "shim_kind": (p.CONTROL, BYTE)}
        return self.entry("punt", match, "punt", priority=10, reason=self.punt_reasons["control"])

    def nexthop(self, index, port, mtu=MTU):
        return self.entry("nexthop", {"nexthop": index}, "set_nexthop", port=port, src_mac=port_mac(port),
                          dst_mac=neighbour_mac(port), mtu=mtu)

    # The common cases: in at the side where such packets come from, out where they go.

    def assert_tunnels(self, packet, expected):
        self.assert_sends(CLIENT_SIDE, into(CLIENT_SIDE, packet), ROUTER_SIDE, out_of(ROUTER_SIDE, expected))

    def assert_returns(self, packet, expected):
        self.assert_sends(ROUTER_SIDE, into(ROUTER_SIDE, packet), CLIENT_SIDE, out_of(CLIENT_SIDE, expected))

    def assert_client_dropped(self, packet, reason):
        self.assert_drops(CLIENT_SIDE, into(CLIENT_SIDE, packet), reason)

    def assert_router_dropped(self, packet, reason):
        self.assert_drops(ROUTER_SIDE, into(ROUTER_SIDE, packet), reason)
