// Checksums verified and made new, of headers alone and with the payload.
#include <core.p4>
#include <v1model.p4>

#define OWN_VERIFY
#define OWN_COMPUTE

header kind_t {
    bit<8> kind;
    bit<8> wrong;
}

header plain_t {
    bit<16> a;
    bit<12> b;
    bit<4>  c;
    bit<16> sum;
}

header loaded_t {
    bit<16> a;
    bit<16> length;
    bit<16> sum;
}

header crc_t {
    bit<32> a;
    bit<32> sum;
}

struct headers_t {
    kind_t   kind;
    plain_t  plain;
    loaded_t loaded;
    crc_t    crc;
}

struct metadata_t { }

parser Parse(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.kind);
        transition select(hdr.kind.kind) {
            1: plain;
            2: loaded;
            3: crc;
            4: plain;
            default: accept;
        }
    }
    state plain {
        packet.extract(hdr.plain);
        transition accept;
    }
    state loaded {
        packet.extract(hdr.loaded);
        transition accept;
    }
    state crc {
        packet.extract(hdr.crc);
        transition accept;
    }
}

control Verify(inout headers_t hdr, inout metadata_t meta) {
    apply {
        verify_checksum(hdr.plain.isValid() && hdr.kind.kind == 1,
            { hdr.plain.a, hdr.plain.b, hdr.plain.c }, hdr.plain.sum, HashAlgorithm.csum16);
        verify_checksum_with_payload(hdr.loaded.isValid(),
            { hdr.loaded.a, hdr.loaded.length }, hdr.loaded.sum, HashAlgorithm.csum16);
        verify_checksum(hdr.crc.isValid(), { hdr.crc.a }, hdr.crc.sum, HashAlgorithm.crc32);
    }
}

control IngressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        std.egress_spec = 1;
        hdr.kind.wrong = (bit<8>)std.checksum_error;
        if (hdr.plain.isValid()) {
            hdr.plain.a = hdr.plain.a + 1;
        }
        if (hdr.loaded.isValid()) {
            hdr.loaded.a = hdr.loaded.a + 1;
        }
        if (hdr.crc.isValid()) {
            hdr.crc.a = hdr.crc.a + 1;
        }
    }
}

control Compute(inout headers_t hdr, inout metadata_t meta) {
    apply {
        update_checksum(hdr.plain.isValid(),
            { hdr.plain.a, hdr.plain.b, hdr.plain.c }, hdr.plain.sum, HashAlgorithm.csum16);
        update_checksum_with_payload(hdr.loaded.isValid(),
            { hdr.loaded.a, hdr.loaded.length }, hdr.loaded.sum, HashAlgorithm.csum16);
        update_checksum(hdr.crc.isValid(), { hdr.crc.a }, hdr.crc.sum, HashAlgorithm.crc32);
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
