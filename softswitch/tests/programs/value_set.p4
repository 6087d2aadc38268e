// A parser value set: which types go on is decided by the controller.
#include <core.p4>
#include <v1model.p4>

header type_t {
    bit<16> type;
    bit<8>  minor;
}

header body_t {
    bit<8> value;
}

struct headers_t {
    type_t type;
    body_t body;
}

struct metadata_t {
    bit<8> path;
}

parser Parse(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    value_set<bit<16>>(4) known_types;

    state start {
        packet.extract(hdr.type);
        transition select(hdr.type.type) {
            0x0800: fixed;
            known_types: known;
            default: accept;
        }
    }
    state fixed {
        meta.path = 1;
        transition accept;
    }
    state known {
        meta.path = 2;
        packet.extract(hdr.body);
        transition accept;
    }
}

control IngressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        std.egress_spec = 1;
        hdr.type.minor = meta.path;
        if (hdr.body.isValid()) {
            hdr.body.value = ~hdr.body.value;
        }
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.type);
        packet.emit(hdr.body);
    }
}

#include "include/shell.p4"
