// Entries that are part of the program: their order, their priorities, and defaults with arguments.
#include <core.p4>
#include <v1model.p4>

header key_t {
    bit<8>  which;
    bit<8>  result;
    bit<16> a;
    bit<16> b;
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
    action set_result(bit<8> result) {
        hdr.key.result = result;
    }

    action add(bit<16> more, bit<8> result) {
        hdr.key.b = hdr.key.b + more;
        hdr.key.result = result;
    }

    table by_ternary {
        key = { hdr.key.a: ternary; hdr.key.b: exact; }
        actions = { set_result; add; }
        const default_action = set_result(0xd1);
        const entries = {
            (0x1200 &&& 0xff00, 1): set_result(1);
            (0x1234, 1): set_result(2);
            (0x0004 &&& 0x000f, 1): add(0x100, 3);
            (_, 2): add(0xffff, 4);
        }
    }

    table by_range {
        key = { hdr.key.a: range; }
        actions = { set_result; add; }
        default_action = add(1, 0xd2);
        const entries = {
            0 .. 9: set_result(1);
            5 .. 99: set_result(2);
            1000: set_result(3);
        }
    }

    table by_prefix {
        key = { hdr.key.a: lpm; }
        actions = { set_result; }
        const default_action = set_result(0xd3);
        const entries = {
            0x1000 &&& 0xf000: set_result(1);
            0x1200 &&& 0xff00: set_result(2);
            0x1234: set_result(3);
        }
    }

    table by_priority {
        key = { hdr.key.a: ternary; }
        actions = { set_result; }
        const default_action = set_result(0xd4);
        largest_priority_wins = false;
        priority_delta = 10;
        entries = {
            const priority = 11: 0x0012 &&& 0x00ff: set_result(1);
            priority = 5: 0x0002 &&& 0x000f: set_result(2);
            const 0x1100 &&& 0xff00: set_result(3);
        }
    }

    table mutable_default {
        key = { hdr.key.a: exact; }
        actions = { set_result; add; }
        default_action = add(2, 0xd5);
    }

    apply {
        std.egress_spec = 1;
        if (hdr.key.which == 1) {
            by_ternary.apply();
        } else if (hdr.key.which == 2) {
            by_range.apply();
        } else if (hdr.key.which == 3) {
            by_prefix.apply();
        } else if (hdr.key.which == 4) {
            by_priority.apply();
        } else if (hdr.key.which == 5) {
            mutable_default.apply();
        }
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
