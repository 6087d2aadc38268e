// Checksums over fields of two headers, of which either may be missing.
#include <core.p4>
#include <v1model.p4>

#define OWN_COMPUTE

header kind_t {
    bit<8> kind;
    bit<8> pad;
}

header upper_t {
    bit<16> a;
}

header lower_t {
    bit<16> b;
    bit<16> sum;
    bit<16> other;
}

struct headers_t {
    kind_t  kind;
    upper_t upper;
    lower_t lower;
}

struct metadata_t { }

parser Parse(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.kind);
        transition select(hdr.kind.kind) {
            1: upper;
            2: lower;
            default: accept;
        }
    }
    state upper {
        packet.extract(hdr.upper);
        transition lower;
    }
    state lower {
        packet.extract(hdr.lower);
        transition accept;
    }
}

control IngressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        std.egress_spec = 1;
    }
}

control Compute(inout headers_t hdr, inout metadata_t meta) {
    apply {
        update_checksum(hdr.kind.pad == 0, { hdr.upper.a, hdr.lower.b }, hdr.lower.sum, HashAlgorithm.csum16);
        update_checksum(hdr.kind.pad == 0, { hdr.lower.sum, hdr.upper.a, hdr.lower.b }, hdr.lower.other, HashAlgorithm.csum16);
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
