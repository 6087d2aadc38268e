// Registers: read, written, wider than a word, signed, and read back within one packet.
#include <core.p4>
#include <v1model.p4>

header key_t {
    bit<8>  op;
    bit<8>  index;
    bit<16> value;
    bit<48> wide;
    int<8>  signed;
    bit<8>  more;
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
    register<bit<16>>(256) small;
    register<bit<48>>(256) large;
    register<bit<100>>(256) huge;
    register<int<8>>(256) signs;
    register<bit<1>>(256) flags;

    apply {
        std.egress_spec = 1;
        bit<32> index = (bit<32>)hdr.key.index;
        if (hdr.key.op == 1) {
            small.write(index, hdr.key.value);
        } else if (hdr.key.op == 2) {
            small.read(hdr.key.value, index);
        } else if (hdr.key.op == 3) {
            bit<16> old;
            small.read(old, index);
            small.write(index, old + hdr.key.value);
            small.read(hdr.key.value, index);
        } else if (hdr.key.op == 4) {
            large.write(index, hdr.key.wide);
        } else if (hdr.key.op == 5) {
            large.read(hdr.key.wide, index);
        } else if (hdr.key.op == 6) {
            signs.write(index, hdr.key.signed);
        } else if (hdr.key.op == 7) {
            signs.read(hdr.key.signed, index);
        } else if (hdr.key.op == 8) {
            huge.write(index, hdr.key.wide ++ (bit<52>)hdr.key.value);
        } else if (hdr.key.op == 9) {
            bit<100> all;
            huge.read(all, index);
            hdr.key.wide = all[99:52];
            hdr.key.value = all[15:0];
        } else if (hdr.key.op == 10) {
            bit<1> flag;
            flags.read(flag, index);
            flags.write(index, ~flag);
            hdr.key.more = (bit<8>)flag;
        }
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
