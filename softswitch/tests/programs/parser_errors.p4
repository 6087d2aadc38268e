// verify, every parser error that a packet can cause, and errors of the program's own.
#include <core.p4>
#include <v1model.p4>

error {
    BadVersion,
    BadLength
}

header head_t {
    bit<4>  version;
    bit<4>  mode;
    bit<8>  length;
}

header tail_t {
    bit<32> value;
}

header report_t {
    bit<8> code;
    bit<8> valid;
}

struct headers_t {
    report_t report;
    head_t   head;
    tail_t   tail;
    tail_t   tail2;
}

struct metadata_t { }

parser Parse(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.head);
        verify(hdr.head.version == 4, error.BadVersion);
        verify(hdr.head.length < 64, error.BadLength);
        transition select(hdr.head.mode) {
            0: accept;
            1: tail;
            2: peek;
            3: two;
        }
    }
    state tail {
        packet.extract(hdr.tail);
        transition accept;
    }
    state two {
        packet.extract(hdr.tail);
        packet.extract(hdr.tail2);
        transition accept;
    }
    state peek {
        transition select(packet.lookahead<bit<16>>()) {
            0xbeef: tail;
            default: accept;
        }
    }
}

control IngressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        std.egress_spec = 1;
        hdr.report.setValid();
        hdr.report.valid = 0;
        if (hdr.head.isValid()) {
            hdr.report.valid = hdr.report.valid | 1;
        }
        if (hdr.tail.isValid()) {
            hdr.report.valid = hdr.report.valid | 2;
        }
        if (hdr.tail2.isValid()) {
            hdr.report.valid = hdr.report.valid | 4;
        }
        if (std.parser_error == error.NoError) {
            hdr.report.code = 0;
        } else if (std.parser_error == error.PacketTooShort) {
            hdr.report.code = 1;
        } else if (std.parser_error == error.NoMatch) {
            hdr.report.code = 2;
        } else if (std.parser_error == error.BadVersion) {
            hdr.report.code = 3;
        } else if (std.parser_error == error.BadLength) {
            hdr.report.code = 4;
        } else {
            hdr.report.code = 0xff;
        }
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
