// Truncation in ingress and in egress, below and above the packet's length.
#include <core.p4>
#include <v1model.p4>

#define OWN_EGRESS

header key_t {
    bit<8>  where;
    bit<8>  length;
    bit<32> seen;
}

header added_t {
    bit<32> value;
}

struct headers_t {
    added_t added;
    key_t   key;
}

struct metadata_t { }

parser Parse(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.key);
        transition accept;
    }
}

control IngressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        std.egress_spec = 1;
        if (hdr.key.where & 1 == 1) {
            truncate((bit<32>)hdr.key.length);
        }
        if (hdr.key.where & 4 == 4) {
            hdr.added.setValid();
            hdr.added.value = 0x01020304;
        }
    }
}

control EgressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        hdr.key.seen = std.packet_length;
        if (hdr.key.where & 2 == 2) {
            truncate((bit<32>)hdr.key.length + 2);
        }
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
