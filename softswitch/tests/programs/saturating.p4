// Saturating addition and subtraction, unsigned and signed, of several widths.
#include <core.p4>
#include <v1model.p4>

header operands_t {
    bit<8>  op;
    bit<8>  a;
    bit<8>  b;
    int<8>  c;
    int<8>  d;
    bit<12> e;
    int<12> f;
    bit<64> g;
    int<64> h;
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
            hdr.in_.a = hdr.in_.a |+| hdr.in_.b;
            hdr.in_.c = hdr.in_.c |+| hdr.in_.d;
            hdr.in_.e = hdr.in_.e |+| 0x800;
            hdr.in_.f = hdr.in_.f |+| 12s1000;
            hdr.in_.g = hdr.in_.g |+| 0xff;
            hdr.in_.h = hdr.in_.h |+| 64s255;
        } else {
            hdr.in_.a = hdr.in_.a |-| hdr.in_.b;
            hdr.in_.c = hdr.in_.c |-| hdr.in_.d;
            hdr.in_.e = hdr.in_.e |-| 0x800;
            hdr.in_.f = hdr.in_.f |-| 12s1000;
            hdr.in_.g = hdr.in_.g |-| 0xff;
            hdr.in_.h = hdr.in_.h |-| 64s255;
        }
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
