// Stacks in the parser: next, last, lastIndex, loops, and one label too many.
#include <core.p4>
#include <v1model.p4>

header label_t {
    bit<15> value;
    bit<1>  bottom;
}

header report_t {
    bit<8>  error_seen;
    bit<8>  count;
    bit<16> last;
}

struct headers_t {
    report_t   report;
    label_t[4] labels;
}

struct metadata_t {
    bit<16> last;
    bit<32> index;
}

parser Parse(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.labels.next);
        meta.last = (bit<16>)hdr.labels.last.value;
        meta.index = hdr.labels.lastIndex;
        transition select(hdr.labels.last.bottom) {
            0: start;
            1: accept;
        }
    }
}

control IngressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        std.egress_spec = 1;
        hdr.report.setValid();
        hdr.report.last = meta.last;
        hdr.report.count = (bit<8>)meta.index;
        if (std.parser_error == error.StackOutOfBounds) {
            hdr.report.error_seen = 1;
        } else if (std.parser_error == error.PacketTooShort) {
            hdr.report.error_seen = 2;
        } else {
            hdr.report.error_seen = 0;
        }
        if (hdr.labels[2].isValid()) {
            hdr.labels[2].value = hdr.labels[0].value;
        }
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.report);
        packet.emit(hdr.labels);
    }
}

#include "include/shell.p4"
