// A packet's priority, and what it is told about the egress queue that it has been in (times only as what holds between them).
#include <core.p4>
#include <v1model.p4>

#define OWN_EGRESS

header ask_t {
    bit<8> priority;
    bit<8> copies;
}

header told_t {
    bit<8>  priority;
    bit<8>  times;
}

struct headers_t {
    ask_t  ask;
    told_t told;
}

struct metadata_t {
}

parser Parse(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.ask);
        transition accept;
    }
}

control IngressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        std.priority = hdr.ask.priority[2:0];
        std.egress_spec = 1;
        if (hdr.ask.copies == 1) {
            std.mcast_grp = 1;
        }
    }
}

control EgressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        hdr.told.setValid();
        hdr.told.priority = (bit<8>)std.priority;
        hdr.told.times = 0;
        if ((bit<48>)std.enq_timestamp >= (bit<48>)std.ingress_global_timestamp[31:0]) {
            hdr.told.times = hdr.told.times | 1;
        }
        if (std.egress_global_timestamp[31:0] >= std.enq_timestamp) {
            hdr.told.times = hdr.told.times | 2;
        }
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
