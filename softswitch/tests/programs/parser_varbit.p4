// Fields of variable length: extracted, sent, copied, and given away with their header.
#include <core.p4>
#include <v1model.p4>

header fixed_t {
    bit<8> words;
    bit<8> ask;
}

header options_t {
    bit<8>      first;
    varbit<320> options;
    bit<8>      last;
}

header report_t {
    bit<8>  error_seen;
    bit<32> length;
}

struct headers_t {
    report_t  report;
    fixed_t   fixed;
    options_t options;
    options_t copy;
    fixed_t   rest;
}

struct metadata_t { }

parser Parse(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.fixed);
        transition options;
    }
    state options {
        packet.extract(hdr.options, (bit<32>)hdr.fixed.words * 32);
        transition select(hdr.fixed.ask) {
            1: rest;
            default: accept;
        }
    }
    state rest {
        packet.extract(hdr.rest);
        transition accept;
    }
}

control IngressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        std.egress_spec = 1;
        hdr.report.setValid();
        hdr.report.length = std.packet_length;
        if (std.parser_error == error.NoError) {
            hdr.report.error_seen = 0;
        } else if (std.parser_error == error.HeaderTooShort) {
            hdr.report.error_seen = 2;
        } else if (std.parser_error == error.PacketTooShort) {
            hdr.report.error_seen = 1;
        } else {
            hdr.report.error_seen = 0xff;
        }
        if (hdr.fixed.ask == 2) {
            hdr.copy = hdr.options;
            hdr.copy.first = 0xc0;
        } else if (hdr.fixed.ask == 3) {
            hdr.options.setInvalid();
        }
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.report);
        packet.emit(hdr.fixed);
        packet.emit(hdr.options);
        packet.emit(hdr.copy);
        packet.emit(hdr.rest);
    }
}

#include "include/shell.p4"
