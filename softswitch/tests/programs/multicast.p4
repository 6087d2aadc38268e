// Multicast: a copy for each replica, with its port and replication id; groups that do not exist.
#include <core.p4>
#include <v1model.p4>

#define OWN_EGRESS

header key_t {
    bit<16> group;
    bit<16> rid;
    bit<8>  port;
    bit<32> instance;
    bit<8>  changed;
    bit<8>  op;
}

struct headers_t {
    key_t key;
}

struct metadata_t {
    bit<8> number;
}

parser Parse(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.key);
        transition accept;
    }
}

control IngressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        std.egress_spec = 9;
        std.mcast_grp = hdr.key.group;
        meta.number = 0x11;
        hdr.key.changed = 1;
        if (hdr.key.op == 1) {
            mark_to_drop(std);
        }
    }
}

control EgressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        hdr.key.rid = std.egress_rid;
        hdr.key.port = (bit<8>)std.egress_port;
        hdr.key.instance = std.instance_type;
        hdr.key.changed = hdr.key.changed + meta.number;
        meta.number = 0;
        if (hdr.key.op == 2 && std.egress_port == std.ingress_port) {
            mark_to_drop(std);
        }
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
