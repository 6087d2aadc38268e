// Stacks in a control: push_front, pop_front, whole elements, and an index that only the packet knows.
#include <core.p4>
#include <v1model.p4>

header ask_t {
    bit<8> op;
    bit<8> index;
}

header item_t {
    bit<8> value;
}

struct headers_t {
    ask_t     ask;
    item_t[5] items;
}

struct metadata_t { }

parser Parse(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.ask);
        packet.extract(hdr.items.next);
        packet.extract(hdr.items.next);
        packet.extract(hdr.items.next);
        transition accept;
    }
}

control IngressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        std.egress_spec = 1;
        if (hdr.ask.op == 1) {
            hdr.items.push_front(1);
            hdr.items[0].setValid();
            hdr.items[0].value = 0xf1;
        } else if (hdr.ask.op == 2) {
            hdr.items.push_front(3);
            hdr.items[1].setValid();
            hdr.items[1].value = 0xf2;
        } else if (hdr.ask.op == 3) {
            hdr.items.pop_front(1);
        } else if (hdr.ask.op == 4) {
            hdr.items.pop_front(5);
        } else if (hdr.ask.op == 5) {
            hdr.items[hdr.ask.index].value = 0xf5;
        } else if (hdr.ask.op == 6) {
            hdr.ask.index = hdr.items[hdr.ask.index].value;
        } else if (hdr.ask.op == 7) {
            hdr.items[4] = hdr.items[0];
            hdr.items[0].setInvalid();
        }
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.ask);
        packet.emit(hdr.items);
    }
}

#include "include/shell.p4"
