// Key fields and action parameters of more than 128 bits, of every kind of match.
#include <core.p4>
#include <v1model.p4>

header in_t {
    bit<8>   which;
    bit<256> key;
    bit<200> other;
}

header out_t {
    bit<8>   found;
    bit<256> given;
    bit<136> short;
}

struct headers_t {
    in_t  in_;
    out_t out_;
}

struct metadata_t {}

parser Parse(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.in_);
        transition accept;
    }
}

control IngressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    counter(8, CounterType.packets) given;

    action give(bit<256> value, bit<8> found, bit<136> tail) {
        hdr.out_.found = found;
        hdr.out_.given = value;
        hdr.out_.short = tail;
    }
    action flip(bit<256> value) {
        hdr.out_.given = hdr.in_.key ^ value;
        given.count(1);
    }

    table whole {
        key = { hdr.in_.key: exact; hdr.in_.other: exact; }
        actions = { give; flip; NoAction; }
        default_action = flip(256w0xff << 248);
        size = 64;
    }
    table prefix {
        key = { hdr.in_.key: lpm; }
        actions = { give; NoAction; }
        size = 64;
    }
    table masked {
        key = { hdr.in_.key: ternary; hdr.in_.other: ternary; }
        actions = { give; flip; NoAction; }
        size = 64;
    }
    table between {
        key = { hdr.in_.key: range; hdr.in_.which: ternary; }
        actions = { give; NoAction; }
        size = 64;
    }
    table maybe {
        key = { hdr.in_.other: optional; hdr.in_.key: optional; }
        actions = { give; NoAction; }
        size = 64;
    }
    table fixed {
        key = { hdr.in_.key: ternary; }
        actions = { give; NoAction; }
        const default_action = NoAction();
        const entries = {
            (256w1 << 255): give(256w1 << 200, 7, 136w1 << 135);
            (256w3 << 128) &&& (256w7 << 128): give((256w0xabcd << 128) | 5, 8, 9);
            _: give(0, 9, 0);
        }
    }

    apply {
        std.egress_spec = 1;
        hdr.out_.setValid();
        if (hdr.in_.which == 0) {
            whole.apply();
        } else if (hdr.in_.which == 1) {
            prefix.apply();
        } else if (hdr.in_.which == 2) {
            masked.apply();
        } else if (hdr.in_.which <= 4) {
            between.apply();
        } else if (hdr.in_.which == 5) {
            maybe.apply();
        } else {
            fixed.apply();
        }
        hdr.in_.setInvalid();
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.in_);
        packet.emit(hdr.out_);
    }
}

#include "include/shell.p4"
