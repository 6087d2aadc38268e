// Meters of packets and of bytes, indexed and belonging to entries; what is red is dropped.
#include <core.p4>
#include <v1model.p4>

header key_t {
    bit<8> a;
    bit<8> index;
    bit<8> colour;
}

struct headers_t {
    key_t key;
}

struct metadata_t {
    bit<2> direct;
    bit<8> indexed;
}

parser Parse(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.key);
        transition accept;
    }
}

control IngressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    meter(16, MeterType.packets) packets;
    meter(16, MeterType.bytes) bytes;
    direct_meter<bit<2>>(MeterType.packets) of_entry;

    action read_meter() {
        of_entry.read(meta.direct);
    }

    table metered {
        key = { hdr.key.a: exact @name("a"); }
        actions = { read_meter; NoAction; }
        meters = of_entry;
        default_action = NoAction();
    }

    apply {
        std.egress_spec = 1;
        metered.apply();
        if (hdr.key.index < 0x10) {
            packets.execute_meter<bit<8>>((bit<32>)hdr.key.index, meta.indexed);
        } else if (hdr.key.index < 0x20) {
            bytes.execute_meter<bit<8>>((bit<32>)hdr.key.index - 0x10, meta.indexed);
        }
        hdr.key.colour = (bit<8>)(meta.direct ++ meta.indexed[3:0]);
        if (meta.indexed == V1MODEL_METER_COLOR_RED || meta.direct == V1MODEL_METER_COLOR_RED) {
            std.egress_spec = 2;
        }
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
