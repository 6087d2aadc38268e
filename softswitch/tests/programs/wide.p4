// Arithmetic, comparisons and shifts of numbers wider than a machine word.
#include <core.p4>
#include <v1model.p4>

header operands_t {
    bit<8>   op;
    bit<8>   count;
    bit<128> a;
    bit<128> b;
    bit<200> c;
}

struct headers_t {
    operands_t in_;
}

struct metadata_t {
    bit<328> joined;
}

parser Parse(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.in_);
        transition accept;
    }
}

control IngressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    action add() { hdr.in_.a = hdr.in_.a + hdr.in_.b; }
    action sub() { hdr.in_.a = hdr.in_.a - hdr.in_.b; }
    action mul() { hdr.in_.a = hdr.in_.a * hdr.in_.b; }
    action left() { hdr.in_.a = hdr.in_.a << hdr.in_.count; }
    action right() { hdr.in_.a = hdr.in_.a >> hdr.in_.count; }
    action bits() { hdr.in_.a = (hdr.in_.a & ~hdr.in_.b) | (hdr.in_.b ^ 0xffff0000ffff0000ffff0000ffff0000); }
    action join() {
        meta.joined = hdr.in_.a ++ hdr.in_.c;
        hdr.in_.c = meta.joined[327:128];
        hdr.in_.a = meta.joined[127:0];
    }
    action odd() { hdr.in_.c = hdr.in_.c + 1; }
    action odd_sub() { hdr.in_.c = hdr.in_.c - (bit<200>)hdr.in_.a; }
    action odd_left() { hdr.in_.c = hdr.in_.c << hdr.in_.count; }
    action order() {
        hdr.in_.count = 0;
    }

    table operation {
        key = { hdr.in_.op: exact; }
        actions = { add; sub; mul; left; right; bits; join; odd; odd_sub; odd_left; order; NoAction; }
        const default_action = NoAction();
        const entries = {
            1: add();
            2: sub();
            3: mul();
            4: left();
            5: right();
            6: bits();
            7: join();
            8: odd();
            9: odd_sub();
            10: odd_left();
            11: order();
        }
    }

    apply {
        std.egress_spec = 1;
        operation.apply();
        if (hdr.in_.op == 11) {
            if (hdr.in_.a < hdr.in_.b) { hdr.in_.count = hdr.in_.count | 1; }
            if (hdr.in_.a == hdr.in_.b) { hdr.in_.count = hdr.in_.count | 2; }
            if (hdr.in_.a >= hdr.in_.b) { hdr.in_.count = hdr.in_.count | 4; }
            if ((bit<200>)hdr.in_.a != hdr.in_.c) { hdr.in_.count = hdr.in_.count | 8; }
        }
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
