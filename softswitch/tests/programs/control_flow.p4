// if, switch on the action that ran, nested tables, return and exit, in ingress and in egress.
#include <core.p4>
#include <v1model.p4>

#define OWN_EGRESS

header key_t {
    bit<8> a;
    bit<8> b;
    bit<8> trace;
}

struct headers_t {
    key_t key;
}

struct metadata_t { }

parser Parse(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.key);
        transition accept;
    }
}

control IngressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    action one() { hdr.key.trace = hdr.key.trace | 1; }
    action two() { hdr.key.trace = hdr.key.trace | 2; }
    action leave() { hdr.key.trace = hdr.key.trace | 4; exit; }
    action early(bit<8> more) {
        if (hdr.key.b == 9) {
            hdr.key.trace = more;
            return;
        }
        hdr.key.trace = hdr.key.trace | 8;
    }

    table first {
        key = { hdr.key.a: exact; }
        actions = { one; two; leave; early; NoAction; }
        const default_action = NoAction();
        const entries = {
            1: one();
            2: two();
            3: leave();
            4: early(0x70);
        }
    }

    table second {
        key = { hdr.key.b: exact; }
        actions = { two; leave; NoAction; }
        const default_action = NoAction();
        const entries = {
            1: two();
            3: leave();
        }
    }

    table third {
        key = { hdr.key.b: exact; }
        actions = { two; NoAction; }
        const default_action = NoAction();
        const entries = {
            1: two();
        }
    }

    apply {
        std.egress_spec = 1;
        switch (first.apply().action_run) {
            one: {
                second.apply();
            }
            two: {
                if (third.apply().hit) {
                    std.egress_spec = 2;
                } else {
                    return;
                }
            }
            early: { }
            default: {
                switch (hdr.key.b) {
                    5: { hdr.key.trace = 0x55; }
                    6:
                    7: { hdr.key.trace = 0x67; }
                    default: { hdr.key.trace = hdr.key.trace | 0x10; }
                }
            }
        }
        hdr.key.trace = hdr.key.trace | 0x80;
    }
}

control EgressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        if (hdr.key.b == 0xee) {
            exit;
        }
        hdr.key.trace = hdr.key.trace | 0x20;
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
