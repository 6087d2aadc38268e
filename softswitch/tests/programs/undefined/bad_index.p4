// Indices beyond registers, counters and meters: nothing is written, counted or metered, and a read gives 0 (v1model.p4: "no
// state is updated"). BMv2 reads and writes beyond the array.
#include <core.p4>
#include <v1model.p4>

#define OWN_EGRESS

header key_t {
    bit<8>  op;
    bit<32> index;
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
    register<bit<32>>(4) small;
    register<bit<100>>(3) wide;
    counter(4, CounterType.packets_and_bytes) counted;
    meter(4, MeterType.packets) metered;

    action note(bit<32> index) {
        small.write(index, hdr.key.value);
        counted.count(index);
    }
    table indexed {
        key = { hdr.key.op: exact @name("op"); }
        actions = { note; NoAction; }
        default_action = NoAction();
    }

    apply {
        std.egress_spec = 1;
        if (hdr.key.op == 1) {
            small.write(hdr.key.index, hdr.key.value);
        } else if (hdr.key.op == 2) {
            small.read(hdr.key.value, hdr.key.index);
        } else if (hdr.key.op == 3) {
            wide.write(hdr.key.index, (bit<100>)hdr.key.value);
        } else if (hdr.key.op == 4) {
            bit<100> all;
            wide.read(all, hdr.key.index);
            hdr.key.value = all[31:0];
        } else if (hdr.key.op == 5) {
            counted.count(hdr.key.index);
        } else if (hdr.key.op == 6) {
            metered.execute_meter<bit<32>>(hdr.key.index, hdr.key.value);
        } else {
            indexed.apply();
        }
    }
}

control EgressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    register<bit<8>>(2) ports;
    apply {
        ports.write((bit<32>)std.egress_port, 7);
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "../include/shell.p4"
