// Casts, concatenation and slices, on both sides of an assignment; booleans; shifts by more than the width.
#include <core.p4>
#include <v1model.p4>

header operands_t {
    bit<8>  op;
    bit<1>  flag;
    bit<3>  three;
    bit<4>  four;
    bit<16> a;
    bit<16> b;
    bit<32> c;
}

struct headers_t {
    operands_t in_;
}

struct metadata_t {
    bool truth;
}

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
            hdr.in_.c = hdr.in_.a ++ hdr.in_.b;
        } else if (hdr.in_.op == 2) {
            hdr.in_.c[23:8] = hdr.in_.a;
        } else if (hdr.in_.op == 3) {
            hdr.in_.a[3:0] = hdr.in_.c[31:28];
            hdr.in_.a[15:15] = hdr.in_.flag;
        } else if (hdr.in_.op == 4) {
            hdr.in_.three = (bit<3>)hdr.in_.a;
            hdr.in_.c = (bit<32>)hdr.in_.four;
        } else if (hdr.in_.op == 5) {
            meta.truth = (bool)hdr.in_.flag;
            hdr.in_.flag = (bit<1>)!meta.truth;
        } else if (hdr.in_.op == 6) {
            hdr.in_.a = hdr.in_.a << hdr.in_.b[7:0];
            hdr.in_.c = hdr.in_.c >> hdr.in_.b[7:0];
        } else if (hdr.in_.op == 7) {
            hdr.in_.c = (bit<32>)(hdr.in_.three ++ hdr.in_.four ++ hdr.in_.flag ++ hdr.in_.a[7:0]);
        } else if (hdr.in_.op == 8) {
            hdr.in_.a = hdr.in_.flag == 1 ? hdr.in_.b : ~hdr.in_.b;
        } else if (hdr.in_.op == 9) {
            hdr.in_.c = (bit<32>)hdr.in_.a * (bit<32>)hdr.in_.b;
        } else if (hdr.in_.op == 10) {
            bool both = hdr.in_.a == 1 && (hdr.in_.b == 2 || !(hdr.in_.c != 3));
            if (both) {
                hdr.in_.four = 0xf;
            } else {
                hdr.in_.four = 0;
            }
        }
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
