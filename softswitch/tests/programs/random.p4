// Random numbers: within their bounds, and the bound itself when there is only one.
#include <core.p4>
#include <v1model.p4>

header report_t {
    bit<16> low;
    bit<16> high;
    bit<16> number;
    bit<8>  within;
    bit<48> fixed;
}

struct headers_t {
    report_t report;
}

struct metadata_t { }

parser Parse(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.report);
        transition accept;
    }
}

control IngressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        std.egress_spec = 1;
        bit<16> number;
        random(number, hdr.report.low, hdr.report.high);
        hdr.report.within = 0;
        if (number >= hdr.report.low && number <= hdr.report.high) {
            hdr.report.within = 1;
        }
        if (hdr.report.low == hdr.report.high) {
            hdr.report.number = number;
        }
        random(hdr.report.fixed, 48w77, 48w77);
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
