/* Wire formats (DESIGN 3), and what travels with a packet through the pipeline. */

#ifndef DMUX_HEADERS_P4
#define DMUX_HEADERS_P4

/* Before every frame that goes to the controller. */
@controller_header("packet_in")
@id(HEADER_PACKET_IN)
header packet_in_h {
    bit<16> ingress_port;
    PuntReason reason;
    bit<8> pad;
    /* too_big only: the largest IPv4 total length that would have fitted. */
    bit<16> path_mtu;
    /* Arrival in microseconds of this switch's clock (the t_in of a probe reply). */
    bit<48> t_in;
}

/* Before every frame that comes from the controller. */
@controller_header("packet_out")
@id(HEADER_PACKET_OUT)
header packet_out_h {
    bit<16> egress_port;
    /* What to do with the frame: SUBMIT_NONE, SUBMIT_AS_RECEIVED, or 1 (routed). */
    bit<8> submit_to_ingress;
    bit<8> pad;
}

header ethernet_h {
    bit<48> dst;
    bit<48> src;
    bit<16> ether_type;
}

header vlan_h {
    bit<3> pcp;
    bit<1> dei;
    bit<12> vid;
    bit<16> ether_type;
}

header substrate_h {
    bit<4> version;
    bit<4> flags;
    bit<24> mli;
}

/* The fixed part; a packet with options is never parsed further. */
header ipv4_h {
    bit<4> version;
    bit<4> ihl;
    bit<8> dscp_ecn;
    bit<16> total_len;
    bit<16> identification;
    bit<1> reserved;
    bit<1> dont_fragment;
    bit<1> more_fragments;
    bit<13> fragment_offset;
    bit<8> ttl;
    bit<8> protocol;
    bit<16> checksum;
    bit<32> src;
    bit<32> dst;
}

header udp_h {
    bit<16> src_port;
    bit<16> dst_port;
    bit<16> len;
    bit<16> checksum;
}

header shim_h {
    bit<4> version;
    bit<4> kind;
    bit<8> flags;
    bit<16> protocol;
    bit<32> provider;
}

header origin_h {
    bit<32> client;
    bit<16> client_port;
    bit<16> service_index;
}

header probe_h {
    bit<8> type;
    bit<8> reserved;
    bit<16> origin_gateway;
    bit<32> sequence;
    bit<48> t_out;
    bit<48> t_reflect_in;
    bit<48> t_reflect_out;
    bit<16> reserved2;
}

struct headers_t {
    packet_in_h packet_in;
    packet_out_h packet_out;
    ethernet_h ethernet;
    vlan_h vlan;
    substrate_h substrate;
    ipv4_h ipv4;
    udp_h udp;
    shim_h shim;
    origin_h origin;
    probe_h probe;
}

/* What a packet is to this gateway; decides which stages see it and how it is rewritten. */
enum bit<8> Path {
    /* From the WAN, routed by its own destination. */
    TRANSIT = 0,
    /* From a client: to an IPvN router, as kind 1. */
    TUNNEL = 1,
    /* From an IPvN router: to a client, as kind 3. */
    BACK = 2,
    /* A probe request: back to the prober. */
    REFLECT = 3,
    /* From the controller, to be routed. */
    ORIGINATE = 4,
    /* From the controller, straight out of a port. */
    PACKET_OUT = 5,
    /* From an access port: tagged, of the substrate, or for another station. */
    ACCESS = 6,
    /* Between the ports of one access link, untouched. */
    LAN = 7
}

/* Which time stamp egress writes into a probe. */
enum bit<8> Stamp {
    NONE = 0,
    T_OUT = 1,
    T_REFLECT_OUT = 2
}

/* The old words of a rewritten datagram, complemented, as RFC 1624 wants them (arch/v1model/checksum.p4). */
struct checksum_delta_t {
    bit<16> checksum;
    bit<32> src;
    bit<32> dst;
    bit<16> src_port;
    bit<16> dst_port;
    bit<16> len;
    bit<16> shim;
    /* The origin header: as it is when it was added, complemented when it was removed. */
    bit<32> origin_client;
    bit<32> origin_rest;
}

struct metadata_t {
    /* -- filled by the arch shell -- */
    bit<9> ingress_port;
    /* From the Ethernet header to the end of the frame. */
    bit<32> frame_len;
    bit<48> t_in;
    bool parse_failed;
    bool checksum_failed;

    /* -- filled by the parser; zero where a packet has no such field -- */
    bit<16> ether_type;
    bit<8> protocol;
    /* 0 for untagged frames. */
    bit<12> vid;
    /* UDP ports; zero for other protocols and for every fragment. */
    bit<16> src_port;
    bit<16> dst_port;
    /* SHIM_KIND_NONE where there is no shim of our version. */
    bit<8> shim_kind;
    bit<8> probe_type;
    /* Where the packet is to be routed: its destination, until a stage decides otherwise. */
    bit<32> dst;

    /* -- decisions -- */
    Path path;
    DropReason drop_reason;
    PuntReason punt_reason;
    bit<8> role;
    bit<48> mac_difference;
    bit<8> service;
    bit<16> service_index;
    bit<32> set;
    /* The hash of the client's address, and what of it the set has buckets for. */
    bit<16> bucket;
    bit<16> bucket_mask;
    bit<32> router;
    /* A draining router, which keeps its clients (0: none), for how long after their last packet, and whether all are. */
    bit<32> leaving;
    bit<32> idle;
    bit<8> learning;
    /* Difference whose sign bit says that the client is none of that router's. */
    bit<32> idle_left;
    bool present;
    /* -- access LANs -- */
    /* The access link of the port, and the multicast group of its ports. */
    bit<16> link;
    bit<16> flood_group;
    bool flood;
    bit<8> vlan_use;
    bit<32> endpoint;
    bit<9> port_difference;
    bool new_source;
    /* What it came by is a metalink: it is a tunnelled packet by now, from the address that is its MLI. */
    bool from_metalink;
    bit<16> gateway;
    bit<32> gateway_addr;
    bit<16> metanet_protocol;
    bit<32> metanet_provider;
    bit<8> police;
    /* What it leaves by is a metalink, of that MLI of that gateway. */
    bool to_metalink;
    bit<24> mli;
    bit<16> mli_gateway;
    bit<12> out_vid;
    bit<3> out_pcp;
    bit<3> queue;
    /* What the meter of the metalink says, and the cell for what is out of profile. */
    bit<2> color;
    bit<32> cell;
    bit<16> total_len;

    /* The source address and ports of the packet after it is rewritten. */
    bit<32> new_src;
    bit<16> new_src_port;
    bit<16> new_dst_port;
    /* Bytes that rewriting adds (two's complement). */
    bit<32> growth;
    bit<16> flow_hash;
    bit<16> nexthop;
    bit<16> member_mask;
    bit<32> path_mtu;
    /* Differences whose sign bit or zeroness is the answer (comparing two fields is not portable). */
    bit<32> room;
    bit<16> length_difference;
    bit<9> egress_port;
    bit<48> src_mac;
    bit<48> dst_mac;
    bit<2> punt_color;
    Stamp stamp;
    /* The IPv4 header was changed: its checksum is recomputed. */
    bool ipv4_changed;
    /* A datagram that has a UDP checksum was rewritten: it is updated from `delta`. */
    bool udp_changed;
    checksum_delta_t delta;
}

/* What an entry's absence means: every table that must hit has this as its default action. */
@name(".drop")
@id(ACTION_DROP)
action drop(inout metadata_t meta, DropReason reason) {
    meta.drop_reason = reason;
}

#endif
