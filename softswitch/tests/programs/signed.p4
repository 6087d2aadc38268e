// Signed numbers: arithmetic, comparisons, shifts, and widening by the sign.
#include <core.p4>
#include <v1model.p4>

header operands_t {
    bit<8>  op;
    int<8>  a;
    int<8>  b;
    int<16> c;
    int<12> d;
    bit<4>  flags;
}

struct headers_t {
    operands_t in_;
}

struct metadata_t { }

parser Parse(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.in_);
        transition accept;
    }
}

control IngressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        std.egress_spec = 1;
        if (hdr.in_.op == 1) {
            hdr.in_.a = hdr.in_.a + hdr.in_.b;
        } else if (hdr.in_.op == 2) {
            hdr.in_.a = hdr.in_.a - hdr.in_.b;
        } else if (hdr.in_.op == 3) {
            hdr.in_.a = hdr.in_.a * hdr.in_.b;
        } else if (hdr.in_.op == 4) {
            hdr.in_.a = -hdr.in_.a;
        } else if (hdr.in_.op == 5) {
            hdr.in_.a = hdr.in_.a >> (bit<8>)hdr.in_.b;
        } else if (hdr.in_.op == 6) {
            hdr.in_.a = hdr.in_.a << (bit<8>)hdr.in_.b;
        } else if (hdr.in_.op == 7) {
            hdr.in_.c = (int<16>)hdr.in_.a;
            hdr.in_.d = (int<12>)hdr.in_.b;
        } else if (hdr.in_.op == 8) {
            hdr.in_.a = (int<8>)hdr.in_.c;
        } else if (hdr.in_.op == 9) {
            hdr.in_.d = hdr.in_.d + (int<12>)hdr.in_.c;
        } else if (hdr.in_.op == 10) {
            hdr.in_.d = hdr.in_.d >> 3;
        }
        hdr.in_.flags = 0;
        if (hdr.in_.a < hdr.in_.b) { hdr.in_.flags = hdr.in_.flags | 1; }
        if (hdr.in_.c < 0) { hdr.in_.flags = hdr.in_.flags | 2; }
        if (hdr.in_.d >= 100) { hdr.in_.flags = hdr.in_.flags | 4; }
        if ((bit<8>)hdr.in_.a < (bit<8>)hdr.in_.b) { hdr.in_.flags = hdr.in_.flags | 8; }
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
