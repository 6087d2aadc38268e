// Every field of the standard metadata, as ingress and as egress see it; times only as what holds between them.
#include <core.p4>
#include <v1model.p4>

#define OWN_EGRESS

header report_t {
    bit<16> in_port;
    bit<16> spec_before;
    bit<16> egress_port_before;
    bit<32> instance;
    bit<32> length_in;
    bit<32> length_out;
    bit<16> spec_out;
    bit<16> egress_port;
    bit<16> in_port_out;
    bit<8>  checksum_error;
    bit<16> group;
    bit<16> rid;
    bit<8>  priority;
    bit<24> enq_depth;
    bit<24> deq_depth;
    bit<8>  times;
}

struct headers_t {
    report_t report;
}

struct metadata_t {
    bit<8>  untouched;
    bit<48> arrived;
}

parser Parse(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        transition accept;
    }
}

control IngressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        hdr.report.setValid();
        hdr.report.in_port = (bit<16>)std.ingress_port;
        hdr.report.spec_before = (bit<16>)std.egress_spec;
        hdr.report.egress_port_before = (bit<16>)std.egress_port;
        hdr.report.instance = std.instance_type;
        hdr.report.length_in = std.packet_length;
        hdr.report.checksum_error = (bit<8>)std.checksum_error;
        hdr.report.times = meta.untouched;
        meta.arrived = std.ingress_global_timestamp;
        std.priority = 0;
        std.egress_spec = 1;
        if (std.ingress_port == 3) {
            mark_to_drop(std);
        }
    }
}

control EgressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        hdr.report.length_out = std.packet_length;
        hdr.report.spec_out = (bit<16>)std.egress_spec;
        hdr.report.egress_port = (bit<16>)std.egress_port;
        hdr.report.in_port_out = (bit<16>)std.ingress_port;
        hdr.report.group = std.mcast_grp;
        hdr.report.rid = std.egress_rid;
        hdr.report.priority = (bit<8>)std.priority;
        hdr.report.enq_depth = (bit<24>)std.enq_qdepth;
        hdr.report.deq_depth = (bit<24>)std.deq_qdepth;
        if (std.ingress_global_timestamp == meta.arrived) {
            hdr.report.times = hdr.report.times | 1;
        }
        if (std.egress_global_timestamp >= std.ingress_global_timestamp) {
            hdr.report.times = hdr.report.times | 2;
        }
        if ((bit<48>)std.enq_timestamp + (bit<48>)std.deq_timedelta <= std.egress_global_timestamp[31:0] ++ 16w0xffff) {
            hdr.report.times = hdr.report.times | 4;
        }
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
