// Digests with members of every type: headers, nested structs, wide fields, booleans, enums, errors.
#include <core.p4>
#include <v1model.p4>

enum bit<8> kind_t {
    First = 1,
    Second = 2
}

header key_t {
    bit<8>  op;
    bit<4>  half;
    bit<12> more;
}

header long_t {
    bit<200> value;
    int<8>   number;
}

struct pair_t {
    bit<8>   x;
    bit<200> value;
}

struct headers_told_t {
    key_t  key;
    bit<9> port;
    long_t long;
}

struct types_told_t {
    pair_t pair;
    bool   long;
    error  problem;
    kind_t kind;
    int<8> number;
}

struct headers_t {
    key_t  key;
    long_t long;
}

struct metadata_t {
    error  problem;
    kind_t kind;
}

parser Parse(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.key);
        transition select(hdr.key.op & 4) {
            4: more;
            default: accept;
        }
    }
    state more {
        packet.extract(hdr.long);
        transition accept;
    }
}

control IngressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        std.egress_spec = 1;
        meta.kind = hdr.key.half == 0 ? kind_t.First : kind_t.Second;
        if (hdr.key.op & 1 == 1) {
            digest<headers_told_t>(1, { hdr.key, std.ingress_port, hdr.long });
        }
        if (hdr.key.op & 2 == 2) {
            digest<types_told_t>(1, { { hdr.key.op, hdr.long.value }, hdr.long.isValid(), std.parser_error, meta.kind, hdr.long.number });
        }
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
