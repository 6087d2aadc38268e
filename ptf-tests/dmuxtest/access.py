"""The gateway with an access LAN on two of its ports, and two metalinks.

    clients 10.0.0.0/24     ── port 1 ─┐
    routers 203.0.113.0/24  ── port 2 ─┤ gateway 192.0.2.1, GatewayId 9
    endpoint NEAR           ── port 3 ─┤ access link 1: provisioned VLAN 100, multipoint VLAN 200
    endpoint FAR            ── port 4 ─┘
"""

from dmuxtest import packets as p
from dmuxtest.base_test import ROLE_ACCESS, port_mac
from dmuxtest.gateway import ANY_PROVIDER, FAR_SIDE, GATEWAY, GATEWAY_SIDE, PROTOCOL, ROUTER, ROUTER_INDEX, ROUTER_PORT, \
    GatewayTest

GATEWAY_ID = 9
LINK = 1
GROUP = 11
PROVISIONED, MULTIPOINT = 100, 200
NEAR_PORT, FAR_PORT = GATEWAY_SIDE, FAR_SIDE
NEAR, FAR = "02:00:00:00:03:01", "02:00:00:00:04:01"
BROADCAST = "ff:ff:ff:ff:ff:ff"

# Metalinks: MLI, and its cell of the counters of what is red.
NEAR_MLI, NEAR_CELL = 0x010001, 101
FAR_MLI, FAR_CELL = 0x010002, 102
NEAR_CONTROL_MLI = 0x020001
SHARED_MLI = 0x030001
PCP, QUEUE = 5, 7
METALINK_MTU = 1400


def mli_address(mli: int) -> str:
    """The client address that stands for a metalink."""
    return f"0.{mli >> 16}.{mli >> 8 & 0xFF}.{mli & 0xFF}"


def tagged_frame(dst, src, vid, ether_type, payload, pcp=0) -> bytes:
    return p.ethernet(dst, src, p.ETHER_VLAN, p.tagged(vid, ether_type, payload, pcp=pcp))


def upward(metaframe=b"metaframe", mli=NEAR_MLI, *, src=NEAR, port=NEAR_PORT, dst=None, vid=PROVISIONED, flags=0, version=1):
    """A frame from an endpoint to the gateway by a metalink."""
    return tagged_frame(dst or port_mac(port), src, vid, p.ETHER_SUBSTRATE,
                        p.substrate(mli, metaframe, flags=flags, version=version), pcp=PCP)


def downward(metaframe=b"metaframe", mli=NEAR_MLI, *, dst=NEAR, port=NEAR_PORT, flags=0):
    """The frame in which the gateway sends a metaframe by a metalink."""
    return tagged_frame(dst, port_mac(port), PROVISIONED, p.ETHER_SUBSTRATE, p.substrate(mli, metaframe, flags=flags), pcp=PCP)


def metalink_to_router(metaframe=b"metaframe", mli=NEAR_MLI, *, protocol=PROTOCOL, provider=ANY_PROVIDER, dst=ROUTER,
                       dst_port=ROUTER_PORT) -> bytes:
    """An endpoint's metaframe as the gateway tunnels it: no UDP checksum, as it has not seen the metaframe."""
    body = p.shim(p.FORWARD, protocol, provider, flags=1) + p.origin(mli_address(mli), GATEWAY_ID, 0) + metaframe
    return p.datagram(GATEWAY, dst, p.DMUX_PORT, dst_port, body, ttl=63, identification=0, udp_checksum=0)


class AccessTest(GatewayTest):
    """A test that starts from the gateway above."""

    def setUp(self):
        super().setUp()
        e = self.entry
        for port in (NEAR_PORT, FAR_PORT):
            self.modify("port_role", {"port": port}, "set_role", role=ROLE_ACCESS, mac=port_mac(port))
        link = {"link": LINK, "flood_group": GROUP, "gateway": GATEWAY_ID, "gateway_addr": GATEWAY}
        self.insert_all([
            e("access_port", {"port": NEAR_PORT}, "set_access_link", **link),
            e("access_port", {"port": FAR_PORT}, "set_access_link", **link),
            e("discovery_port", {"port": NEAR_PORT}, "discover"),
            e("discovery_port", {"port": FAR_PORT}, "discover"),
            e("access_vlan", {"link": LINK, "vid": PROVISIONED}, "provisioned"),
            e("access_vlan", {"link": LINK, "vid": MULTIPOINT}, "multipoint"),
            e("shared_mli", {"link": LINK, "mli": SHARED_MLI}, "shared"),
            e("endpoint", {"port": NEAR_PORT, "src": NEAR}, "set_endpoint", endpoint=1),
            e("endpoint", {"port": FAR_PORT, "src": FAR}, "set_endpoint", endpoint=70000),
            self.rx(1, NEAR_MLI, NEAR_CELL),
            self.rx(70000, FAR_MLI, FAR_CELL),
            e("metalink_rx", {"endpoint": 1, "mli": NEAR_CONTROL_MLI}, "metalink_control", cell=NEAR_CELL + 10),
            self.tx(NEAR_MLI, NEAR_PORT, NEAR, NEAR_CELL),
            self.tx(FAR_MLI, FAR_PORT, FAR, FAR_CELL),
        ])
        self.add_group(GROUP, NEAR_PORT, FAR_PORT)

    def rx(self, endpoint, mli, cell, police=1):
        return self.entry("metalink_rx", {"endpoint": endpoint, "mli": mli}, "metalink", protocol=PROTOCOL,
                          provider=ANY_PROVIDER, cell=cell, police=police)

    def tx(self, mli, port, mac, cell, mtu=METALINK_MTU, queue=QUEUE):
        return self.entry("metalink_tx", {"gateway": GATEWAY_ID, "mli": mli, "protocol": PROTOCOL}, "send_metalink", port=port,
                          src_mac=port_mac(port), dst_mac=mac, vid=PROVISIONED, pcp=PCP, queue=queue, mtu=mtu, cell=cell)

    def make_far_a_router(self):
        """Registers FAR as the IPvN router, by its metalink."""
        self.modify("router", {"router": ROUTER_INDEX}, "to_metalink", mli=FAR_MLI, gateway=GATEWAY_ID)
        self.insert("return_source", {"src": mli_address(FAR_MLI), "src_port": GATEWAY_ID, "protocol": PROTOCOL}, "accept_return")
