// Clones from ingress and from egress, with and without metadata that they keep.
#include <core.p4>
#include <v1model.p4>

#define OWN_EGRESS

header key_t {
    bit<8>  op;
    bit<8>  session;
    bit<8>  kept;
    bit<8>  lost;
    bit<32> instance;
    bit<16> rid;
    bit<8>  port;
}

struct headers_t {
    key_t key;
}

struct metadata_t {
    @field_list(1)
    bit<8> kept;
    @field_list(2)
    bit<8> lost;
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
        meta.kept = 0x4b;
        meta.lost = 0x4c;
        if (hdr.key.op & 1 == 1) {
            clone_preserving_field_list(CloneType.I2E, (bit<32>)hdr.key.session, 1);
        }
        if (hdr.key.op & 2 == 2) {
            clone(CloneType.I2E, (bit<32>)hdr.key.session + 1);
        }
        if (hdr.key.op & 4 == 4) {
            mark_to_drop(std);
        }
        // A clone of ingress is the packet as it came, so this is not in it.
        hdr.key.session = 0xff;
        meta.kept = meta.kept + 1;
    }
}

control EgressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        hdr.key.kept = meta.kept;
        hdr.key.lost = meta.lost;
        hdr.key.instance = std.instance_type;
        hdr.key.rid = std.egress_rid;
        hdr.key.port = (bit<8>)std.egress_port;
        if (hdr.key.op & 8 == 8 && std.instance_type == 0) {
            clone_preserving_field_list(CloneType.E2E, 32w7, 2);
            meta.lost = 0xdd;
            hdr.key.op = hdr.key.op | 0x80;
        }
        if (hdr.key.op & 16 == 16 && std.instance_type == 0) {
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
