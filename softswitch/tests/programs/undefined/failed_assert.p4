// Assertions and assumptions that fail, in a control, an action and egress: the packet is not sent. BMv2 ends.
#include <core.p4>
#include <v1model.p4>

#define OWN_EGRESS

header key_t {
    bit<8> op;
    bit<8> value;
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
    register<bit<8>>(4) reached;

    action insist(bit<8> most) {
        assert(hdr.key.value <= most);
        reached.write(2, hdr.key.value);
    }
    table limits {
        key = { hdr.key.op: exact @name("op"); }
        actions = { insist; NoAction; }
        default_action = NoAction();
    }

    apply {
        std.egress_spec = 1;
        if (hdr.key.op == 1) {
            assert(hdr.key.value < 10);
            reached.write(0, hdr.key.value);
        } else if (hdr.key.op == 2) {
            assume(hdr.key.value != 0 && hdr.key.value != 0xff);
            reached.write(1, hdr.key.value);
        } else {
            limits.apply();
        }
    }
}

control EgressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        assert(hdr.key.op != 7);
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "../include/shell.p4"
