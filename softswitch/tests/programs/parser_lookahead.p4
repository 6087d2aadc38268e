// Looking ahead without taking, advancing, and selects on several keys, masks and ranges.
#include <core.p4>
#include <v1model.p4>

header tag_t {
    bit<4> kind;
    bit<4> length;
}

header wide_t {
    bit<12> a;
    bit<20> b;
}

header seen_t {
    bit<8>  path;
    bit<8>  ahead;
    bit<16> ahead16;
}

struct headers_t {
    seen_t seen;
    tag_t  tag;
    wide_t wide;
}

struct metadata_t {
    bit<8>  path;
    bit<8>  ahead;
    bit<16> ahead16;
}

parser Parse(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        meta.ahead = packet.lookahead<bit<8>>();
        meta.ahead16 = packet.lookahead<bit<16>>();
        transition select(packet.lookahead<tag_t>().kind, std.ingress_port) {
            (0, _): plain;
            (1, 0 .. 3): skip;
            (1, _): plain;
            (0x8 &&& 0x8, _): wide;
            default: accept;
        }
    }
    state plain {
        meta.path = 1;
        packet.extract(hdr.tag);
        transition select(hdr.tag.kind, hdr.tag.length) {
            (0, 0xf): wide;
            default: accept;
        }
    }
    state skip {
        meta.path = 2;
        packet.advance(8);
        transition select(packet.lookahead<bit<8>>()) {
            0xaa .. 0xbb: wide;
            default: far;
        }
    }
    state far {
        meta.path = 3;
        packet.advance((bit<32>)(bit<8>)meta.ahead[3:0] * 8);
        packet.extract(hdr.tag);
        transition accept;
    }
    state wide {
        meta.path = meta.path | 0x80;
        packet.extract(hdr.wide);
        transition accept;
    }
}

control IngressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        hdr.seen.setValid();
        hdr.seen.path = meta.path;
        hdr.seen.ahead = meta.ahead;
        hdr.seen.ahead16 = meta.ahead16;
        if (hdr.wide.isValid()) {
            bit<12> a = hdr.wide.a;
            hdr.wide.a = hdr.wide.b[19:8];
            hdr.wide.b = hdr.wide.b[7:0] ++ a;
        }
        std.egress_spec = 1;
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
