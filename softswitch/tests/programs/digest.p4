// Digests: what the packet makes the switch tell its controller.
#include <core.p4>
#include <v1model.p4>

header key_t {
    bit<8>  op;
    bit<48> address;
    bit<16> type;
}

struct learned_t {
    bit<48> address;
    bit<9>  port;
    bit<16> type;
}

struct small_t {
    bit<8> op;
}

struct headers_t {
    key_t key;
}

struct metadata_t {
    learned_t learned;
}

parser Parse(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.key);
        transition accept;
    }
}

control IngressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        std.egress_spec = 1;
        if (hdr.key.op & 1 == 1) {
            meta.learned.address = hdr.key.address;
            meta.learned.port = std.ingress_port;
            meta.learned.type = hdr.key.type;
            digest<learned_t>(1, meta.learned);
        }
        if (hdr.key.op & 2 == 2) {
            digest<small_t>(1, { hdr.key.op });
        }
        if (hdr.key.op & 4 == 4) {
            mark_to_drop(std);
        }
        // A digest has the values of the end of ingress only if it shares the variable.
        hdr.key.type = 0;
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
