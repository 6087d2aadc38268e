/* Numbers that the data plane and its controllers agree on. */

#ifndef DMUX_CONSTANTS_P4
#define DMUX_CONSTANTS_P4

/* ---- Ports of the switch ---- */

/* The controller's port: frames from it carry packet_out, frames to it packet_in. Must equal the target's --cpu-port. */
const bit<9> CPU_PORT = 510;

/* Roles of a port (port_role). */
const bit<8> ROLE_WAN = 1;
const bit<8> ROLE_CPU = 2;
/* On an access LAN. */
const bit<8> ROLE_ACCESS = 3;

/* What a VLAN of an access link is for (access_vlan); others are legacy. */
const bit<8> VLAN_PROVISIONED = 1;
const bit<8> VLAN_MULTIPOINT = 2;

/* What becomes of a frame from the controller (packet_out.submit_to_ingress). */
/* Out of egress_port as it is. */
const bit<8> SUBMIT_NONE = 0;
/* Any other value than these two, 1 by custom: routed by its destination. */
/* As if it had come from a WAN port, but from any source: for packets with which a controller tries its own tables. */
const bit<8> SUBMIT_AS_RECEIVED = 2;

/* Which of our services a packet is for (meta.service). */
const bit<8> SERVICE_NONE = 0;
const bit<8> SERVICE_SHIM = 1;
const bit<8> SERVICE_GATEWAY = 2;

/* ---- Protocol numbers ---- */

const bit<16> ETHER_TYPE_IPV4 = 0x0800;
const bit<16> ETHER_TYPE_ARP = 0x0806;
/* 802.1Q. */
const bit<16> ETHER_TYPE_VLAN = 0x8100;
const bit<16> ETHER_TYPE_SUBSTRATE = 0x88B5;
const bit<48> MAC_BROADCAST = 0xFFFFFFFFFFFF;
const bit<8> IP_PROTOCOL_UDP = 17;

/* The one UDP port of dmux (DESIGN 3). */
const bit<16> DMUX_PORT = 51700;

const bit<4> SHIM_VERSION = 1;
const bit<4> SHIM_KIND_DATA = 0;
const bit<4> SHIM_KIND_FORWARD = 1;
const bit<4> SHIM_KIND_RETURN = 2;
const bit<4> SHIM_KIND_DELIVER = 3;
/* Kind 4, control, is matched by entries of the table punt only. */
const bit<4> SHIM_KIND_PROBE = 5;
/* What meta.shim_kind holds when a packet has no shim of a version that we know: no kind, as kinds are 4 bits. */
const bit<8> SHIM_KIND_NONE = 0xFF;
/* Flag bit 0 (M): the origin is a metalink endpoint. */
const bit<8> SHIM_FLAG_METALINK = 0x01;

const bit<4> SUBSTRATE_VERSION = 1;
/* Flag bit 0 (S): a shim and an origin header follow. Between gateway and an IPvN router on a metalink. */
const bit<4> SUBSTRATE_FLAG_SHIM = 0x1;
/* Substrate discovery. */
const bit<24> MLI_DISCOVERY = 0;

const bit<8> PROBE_REQUEST = 1;
const bit<8> PROBE_REPLY = 2;

/* ---- Lengths in bytes ---- */

const bit<32> ETHERNET_BYTES = 14;
const bit<32> PACKET_OUT_BYTES = 4;
const bit<16> IPV4_BYTES = 20;
/* The origin header, which a tunnelled packet grows by and a returned packet shrinks by. */
const bit<16> ORIGIN_BYTES = 8;
const bit<32> GROWTH_TUNNEL = 8;
const bit<32> GROWTH_RETURN = 0xFFFFFFF8;
/* What the frame of a metalink has to be longer by to be the IPv4 packet of a tunnel with the same metaframe: IPv4, UDP (and
 * shim) instead of Ethernet, tag and substrate header. */
const bit<16> GROWTH_NORMAL_SHIM = 6;
const bit<16> GROWTH_NORMAL_DATA = 14;
/* IPv4 and UDP, which a metalink to an IPvN router does without; and the shim, which one to an endpoint does without. */
const bit<32> TUNNEL_BYTES = 28;
const bit<32> TUNNEL_SHIM_BYTES = 36;
/* UDP + shim + probe header. */
const bit<16> PROBE_UDP_BYTES = 44;

/* TTL of packets that the data plane originates (reflected probes). */
const bit<8> ORIGINATED_TTL = 64;

/* ---- Table sizes (entries) ---- */

const int PORT_ROLE_SIZE = 512;
const int SOURCE_GUARD_SIZE = 1024;
const int PUNT_SIZE = 512;
const int LOCAL_SERVICE_SIZE = 4096;
const int PROBE_PEER_SIZE = 4096;
const int DEMUX_SIZE = 65536;
/* Twice 131072: the buckets of all destinations (512 sets of 256, or fewer and larger ones), and their backups'. */
const int BUCKET_SIZE = 262144;
const int ROUTER_SIZE = 131072;
const int RETURN_SOURCE_SIZE = 131072;
const int SERVICE_SOURCE_SIZE = 4096;
const int IPV4_ROUTE_SIZE = 16384;
const int NEXTHOP_SIZE = 4096;
const int ACCESS_PORT_SIZE = 512;
const int ACCESS_VLAN_SIZE = 1024;
const int ENDPOINT_SIZE = 16384;
/* Metalinks, and for each endpoint its control MLI. */
const int METALINK_RX_SIZE = 32768;
const int METALINK_TX_SIZE = 16384;
const int SHARED_MLI_SIZE = 4096;
const int LAN_SIZE = 16384;

/* Cells of the register client_seen: clients of draining routers share them by hash. */
#define CLIENT_SEEN_CELLS 262144
/* Learning (action to_draining): every client counts as one of the router's own, and is remembered. */
const bit<8> LEARNING = 1;

/* Cells of the counter metalink_tx_red: one for each metalink. */
#define METALINK_CELLS 16384
/* Cells of the counter metalink_rx_red and of the register last_report: behind those of the metalinks, one for each endpoint's
 * control MLI. */
#define METALINK_RX_CELLS 32768
/* What is out of profile is dropped (action metalink), not only reported. */
const bit<8> POLICE = 1;

/* What meters call red (RFC 2698). */
const bit<2> COLOR_RED = 2;

/* Cells of the indirect objects: room above the highest reason. */
#define DROP_REASONS 64
#define PUNT_REASONS 16

/* ---- Reasons ---- */

/* Why a frame was dropped: the index into the counter `drops`. Every dropped frame is counted under exactly one. */
enum bit<8> DropReason {
    NONE = 0,
    PARSE_ERROR = 1,
    BAD_IP_VERSION = 2,
    BAD_IP_LENGTH = 3,
    BAD_IP_CHECKSUM = 4,
    IP_OPTIONS = 5,
    FRAGMENT = 6,
    BAD_UDP_LENGTH = 7,
    BAD_SHIM_VERSION = 8,
    BAD_SHIM_KIND = 9,
    TTL_EXPIRED = 10,
    NO_PORT_ROLE = 11,
    NOT_FOR_US = 12,
    SPOOFED_SOURCE = 13,
    UNSUPPORTED_ETHERTYPE = 14,
    NO_SERVICE = 15,
    NO_ROUTE = 16,
    NO_BUCKET = 17,
    NO_ROUTER = 18,
    UNREGISTERED_RETURNER = 19,
    BAD_SERVICE_INDEX = 20,
    NO_IPV4_ROUTE = 21,
    NO_NEXTHOP = 22,
    TOO_BIG = 23,
    PUNT_RATE = 24,
    BAD_PROBE = 25,
    UNKNOWN_PROBER = 26,
    BAD_SUBSTRATE = 27,
    WRONG_VLAN = 28,
    UNKNOWN_ENDPOINT = 29,
    UNKNOWN_METALINK = 30,
    METALINK_RATE = 31,
    LAN_HAIRPIN = 32
}

/* Why a frame was sent to the controller: the index into the meter `punt_meter` and packet_in.reason. */
enum bit<8> PuntReason {
    NONE = 0,
    CONTROL = 1,
    ARP = 2,
    PROBE_REPLY = 3,
    TTL_EXPIRED = 4,
    TOO_BIG = 5,
    NO_ROUTE = 6,
    /* A return whose client is this gateway itself. */
    RETURN = 7,
    /* MLI 0 on an access port. */
    DISCOVERY = 8,
    /* An endpoint's control MLI. */
    METALINK_CONTROL = 9
}

#endif
