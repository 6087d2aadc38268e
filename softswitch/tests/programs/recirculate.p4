// Recirculation: the packet comes again as it would have left, with the metadata that it keeps.
#include <core.p4>
#include <v1model.p4>

#define OWN_EGRESS

header key_t {
    bit<8>  rounds;
    bit<8>  kept;
    bit<8>  lost;
    bit<32> instance;
    bit<32> length;
    bit<16> port;
}

header added_t {
    bit<8> round;
}

struct headers_t {
    added_t added;
    key_t   key;
}

struct metadata_t {
    @field_list(1)
    bit<8> kept;
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
        hdr.key.kept = meta.kept;
        hdr.key.lost = meta.lost;
        hdr.key.instance = std.instance_type;
        hdr.key.length = std.packet_length;
        hdr.key.port = (bit<16>)std.ingress_port;
    }
}

control EgressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        if (hdr.key.rounds > 0) {
            hdr.key.rounds = hdr.key.rounds - 1;
            meta.kept = meta.kept + 3;
            if (hdr.key.rounds == 5) {
                // Leaves with a header before it, which is then parsed as the key.
                hdr.added.setValid();
                hdr.added.round = 0;
            }
            recirculate_preserving_field_list(1);
        }
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
