// Counters of packets, of bytes, of both; indexed by the packet, and belonging to entries.
#include <core.p4>
#include <v1model.p4>

#define OWN_EGRESS

header key_t {
    bit<8> a;
    bit<8> index;
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
    counter(256, CounterType.packets) packets;
    counter(256, CounterType.bytes) bytes;
    counter(300, CounterType.packets_and_bytes) both;
    direct_counter(CounterType.packets_and_bytes) of_entry;
    direct_counter(CounterType.packets) of_prefix;

    action forward(bit<9> port) {
        std.egress_spec = port;
    }

    action drop() {
        mark_to_drop(std);
    }

    table counted {
        key = { hdr.key.a: exact @name("a"); }
        actions = { forward; drop; NoAction; }
        counters = of_entry;
        default_action = NoAction();
    }

    table counted_prefix {
        key = { hdr.key.a: lpm @name("a"); }
        actions = { NoAction; }
        counters = of_prefix;
        const default_action = NoAction();
    }

    apply {
        std.egress_spec = 1;
        packets.count((bit<32>)hdr.key.index);
        bytes.count((bit<32>)hdr.key.index);
        both.count((bit<32>)hdr.key.index + 1);
        counted.apply();
        counted_prefix.apply();
    }
}

control EgressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    counter(512, CounterType.packets_and_bytes) leaving;

    apply {
        leaving.count((bit<32>)std.egress_port);
    }
}

control Emit(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#include "include/shell.p4"
