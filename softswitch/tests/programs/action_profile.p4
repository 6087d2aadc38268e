// An action profile: entries name members, which the controller changes behind them.
#include <core.p4>
#include <v1model.p4>

header key_t {
    bit<8>  a;
    bit<8>  result;
    bit<16> more;
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
    action set_result(bit<8> result, bit<16> more) {
        hdr.key.result = result;
        hdr.key.more = more;
    }

    action forward(bit<9> port) {
        std.egress_spec = port;
    }

    action drop() {
        mark_to_drop(std);
    }

    action_profile(16) members;

    table shared_actions {
        key = { hdr.key.a: exact @name("a"); }
        actions = { set_result; forward; drop; NoAction; }
        implementation = members;
        size = 64;
    }

    apply {
        std.egress_spec = 1;
        if (shared_actions.apply().miss) {
            hdr.key.result = 0xee;
        }
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
