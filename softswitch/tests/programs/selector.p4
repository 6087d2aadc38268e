// An action selector: groups of members, one chosen by a hash over what the table says.
#include <core.p4>
#include <v1model.p4>

header key_t {
    bit<8>  a;
    bit<8>  result;
    bit<16> flow;
    bit<16> other;
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

    action drop() {
        mark_to_drop(std);
    }

    action_selector(HashAlgorithm.crc16, 64, 14) choose;
    action_selector(HashAlgorithm.crc32, 64, 16) choose_again;

    table spread {
        key = {
            hdr.key.a: exact @name("a");
            hdr.key.flow: selector;
            hdr.key.other: selector;
        }
        actions = { set_result; drop; NoAction; }
        implementation = choose;
        size = 64;
    }

    table spread_by_prefix {
        key = {
            hdr.key.a: lpm @name("a");
            hdr.key.other: selector;
            hdr.key.flow: selector;
        }
        actions = { set_result; drop; NoAction; }
        implementation = choose_again;
        size = 64;
    }

    apply {
        std.egress_spec = 1;
        if (!spread.apply().hit) {
            if (!spread_by_prefix.apply().hit) {
                hdr.key.result = 0xee;
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
