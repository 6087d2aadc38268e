// Every hash that v1model has, over fields that fill bytes and fields that do not.
#include <core.p4>
#include <v1model.p4>

header key_t {
    bit<8>   op;
    bit<32>  a;
    bit<32>  b;
    bit<12>  c;
    bit<4>   d;
    bit<16>  narrow;
    bit<32>  wide;
    bit<64>  result64;
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
        bit<16> narrow = 0;
        bit<32> wide = 0;
        if (hdr.key.op == 1) {
            hash(narrow, HashAlgorithm.crc16, 16w0, { hdr.key.a, hdr.key.b }, 32w65536);
            hash(wide, HashAlgorithm.crc16, 32w0, { hdr.key.c, hdr.key.d }, 64w0x100000000);
        } else if (hdr.key.op == 2) {
            hash(wide, HashAlgorithm.crc32, 32w0, { hdr.key.a, hdr.key.b }, 64w0x100000000);
            hash(narrow, HashAlgorithm.crc32, 16w0, { hdr.key.c }, 32w65536);
        } else if (hdr.key.op == 3) {
            hash(narrow, HashAlgorithm.csum16, 16w0, { hdr.key.a, hdr.key.b, hdr.key.c, hdr.key.d }, 32w65536);
            hash(wide, HashAlgorithm.csum16, 32w0, { hdr.key.a }, 64w0x100000000);
        } else if (hdr.key.op == 4) {
            hash(narrow, HashAlgorithm.identity, 16w0, { hdr.key.b }, 32w65536);
            hash(wide, HashAlgorithm.identity, 32w0, { hdr.key.a }, 64w0x100000000);
        } else if (hdr.key.op == 5) {
            hash(narrow, HashAlgorithm.xor16, 16w0, { hdr.key.a, hdr.key.b, hdr.key.c, hdr.key.d }, 32w65536);
            hash(wide, HashAlgorithm.xor16, 32w0, { hdr.key.op, hdr.key.a }, 64w0x100000000);
        } else if (hdr.key.op == 6) {
            hash(narrow, HashAlgorithm.crc16_custom, 16w0, { hdr.key.a, hdr.key.b }, 32w65536);
            hash(wide, HashAlgorithm.crc32_custom, 32w0, { hdr.key.a, hdr.key.b }, 64w0x100000000);
        } else if (hdr.key.op == 7) {
            hash(narrow, HashAlgorithm.crc16, 16w100, { hdr.key.a, hdr.key.b }, 32w10);
            hash(wide, HashAlgorithm.crc32, 32w1000, { hdr.key.a, hdr.key.b }, 32w7);
        } else if (hdr.key.op == 8) {
            hash(narrow, HashAlgorithm.crc16, 16w5, { hdr.key.c, hdr.key.a }, 32w1);
            hash(wide, HashAlgorithm.crc32, 32w5, { hdr.key.c, hdr.key.a, hdr.key.d }, 64w0x10000);
        }
        hdr.key.narrow = narrow;
        hdr.key.wide = wide;
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
