// Header unions: one member valid at a time, chosen by the parser or by a control.
#include <core.p4>
#include <v1model.p4>

header kind_t {
    bit<8> kind;
    bit<8> ask;
}

header short_t {
    bit<8> a;
}

header long_t {
    bit<16> a;
    bit<16> b;
}

header_union either_t {
    short_t small;
    long_t  large;
}

struct headers_t {
    kind_t   kind;
    either_t either;
}

struct metadata_t { }

parser Parse(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.kind);
        transition select(hdr.kind.kind) {
            1: small;
            2: large;
            default: accept;
        }
    }
    state small {
        packet.extract(hdr.either.small);
        transition accept;
    }
    state large {
        packet.extract(hdr.either.large);
        transition accept;
    }
}

control IngressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        std.egress_spec = 1;
        if (hdr.kind.ask == 1) {
            hdr.either.large.setValid();
            hdr.either.large.a = 0x1111;
            hdr.either.large.b = 0x2222;
        } else if (hdr.kind.ask == 2) {
            hdr.either.small.setValid();
            hdr.either.small.a = 0x33;
        } else if (hdr.kind.ask == 3) {
            hdr.either.small.setInvalid();
        } else if (hdr.either.small.isValid()) {
            hdr.either.small.a = hdr.either.small.a + 1;
        } else if (hdr.either.large.isValid()) {
            hdr.either.large.b = hdr.either.large.a;
        }
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.kind);
        packet.emit(hdr.either);
    }
}

#include "include/shell.p4"
