// Every match kind, alone and together, with priorities, and hit and miss told apart.
#include <core.p4>
#include <v1model.p4>

header key_t {
    bit<8>  which;
    bit<8>  result;
    bit<32> a;
    bit<16> b;
    bit<16> c;
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

    action missed() {
        hdr.key.result = 0xee;
    }

    table exact_one {
        key = { hdr.key.a: exact @name("a"); }
        actions = { set_result; missed; }
        default_action = missed();
    }

    table exact_two {
        key = { hdr.key.a: exact @name("a"); hdr.key.c: exact @name("c"); }
        actions = { set_result; missed; }
        default_action = missed();
    }

    table longest {
        key = { hdr.key.a: lpm @name("a"); }
        actions = { set_result; missed; }
        default_action = missed();
    }

    table longest_with_exact {
        key = { hdr.key.b: exact @name("b"); hdr.key.a: lpm @name("a"); }
        actions = { set_result; missed; }
        default_action = missed();
    }

    table masked {
        key = { hdr.key.a: ternary @name("a"); hdr.key.b: ternary @name("b"); }
        actions = { set_result; missed; }
        default_action = missed();
    }

    table ranged {
        key = { hdr.key.b: range @name("b"); hdr.key.c: range @name("c"); }
        actions = { set_result; missed; }
        default_action = missed();
    }

    table optional_one {
        key = { hdr.key.a: optional @name("a"); hdr.key.b: optional @name("b"); }
        actions = { set_result; missed; }
        default_action = missed();
    }

    table mixed {
        key = {
            hdr.key.a: ternary @name("a");
            hdr.key.b: range @name("b");
            hdr.key.c: exact @name("c");
        }
        actions = { set_result; missed; }
        default_action = missed();
    }

    table masked_and_longest {
        key = { hdr.key.a: lpm @name("a"); hdr.key.b: ternary @name("b"); hdr.key.c: optional @name("c"); }
        actions = { set_result; missed; }
        default_action = missed();
    }

    apply {
        std.egress_spec = 1;
        bool hit = false;
        if (hdr.key.which == 1) {
            hit = exact_one.apply().hit;
        } else if (hdr.key.which == 2) {
            hit = exact_two.apply().hit;
        } else if (hdr.key.which == 3) {
            hit = longest.apply().hit;
        } else if (hdr.key.which == 4) {
            hit = longest_with_exact.apply().hit;
        } else if (hdr.key.which == 5) {
            hit = masked.apply().hit;
        } else if (hdr.key.which == 6) {
            hit = ranged.apply().hit;
        } else if (hdr.key.which == 7) {
            hit = optional_one.apply().hit;
        } else if (hdr.key.which == 8) {
            hit = mixed.apply().hit;
        } else if (hdr.key.which == 9) {
            if (masked_and_longest.apply().miss) {
                hit = false;
            } else {
                hit = true;
            }
        }
        if (hit) {
            std.egress_spec = 2;
        }
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
