// Resubmission: the packet comes again as it came, with the metadata that it keeps.
#include <core.p4>
#include <v1model.p4>

header key_t {
    bit<8>  rounds;
    bit<8>  kept;
    bit<8>  lost;
    bit<32> instance;
    bit<32> length;
}

struct headers_t {
    key_t key;
}

struct metadata_t {
    @field_list(1, 3)
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
        meta.lost = meta.lost + 1;
        if (meta.kept < hdr.key.rounds) {
            meta.kept = meta.kept + 1;
            // Not seen by the next round: it gets the packet as it came.
            hdr.key.instance = 0xdeadbeef;
            mark_to_drop(std);
            resubmit_preserving_field_list(1);
        } else {
            hdr.key.kept = meta.kept;
            hdr.key.lost = meta.lost;
            hdr.key.instance = std.instance_type;
            hdr.key.length = std.packet_length;
        }
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
