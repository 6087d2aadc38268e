// Messages to the log, assertions that hold, and an assertion that does not.
#include <core.p4>
#include <v1model.p4>

header key_t {
    bit<8>  op;
    bit<32> value;
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
    apply {
        std.egress_spec = 1;
        log_msg("a packet");
        log_msg("op {} of {}", { hdr.key.op, hdr.key.value });
        assert(hdr.key.isValid());
        assume(std.egress_spec == 1);
        if (hdr.key.op == 1) {
            log_msg("value = {}", { hdr.key.value });
            hdr.key.value = hdr.key.value + 1;
        }
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
