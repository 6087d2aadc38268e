// One of everything that P4Runtime writes, and little of each, so that random writes meet. Compile with compile.sh.
#include <core.p4>
#include <v1model.p4>

header ethernet_t {
    bit<48> dst;
    bit<48> src;
    bit<16> ether_type;
}

header tag_t {
    bit<12> label;
    bit<4>  rest;
}

struct headers_t {
    ethernet_t ethernet;
    tag_t tag;
}

struct metadata_t {
    bit<2> colour;
}

struct seen_t {
    bit<48> src;
    bit<9>  port;
}

struct inner_t {
    @match(ternary) bit<12> label;
    bit<4> rest;
}

struct odd_t {
    bit<16> ether_type;
}

parser HoldingsParser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    value_set<bit<16>>(3) tagged;
    value_set<inner_t>(2) inner;

    state start {
        packet.extract(hdr.ethernet);
        transition select(hdr.ethernet.ether_type) {
            tagged: tag;
            default: accept;
        }
    }
    state tag {
        packet.extract(hdr.tag);
        transition select(hdr.tag.label, hdr.tag.rest) {
            inner: accept;
            default: accept;
        }
    }
}

control HoldingsVerify(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

control HoldingsIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    register<bit<48>>(3) last;
    register<bit<7>>(5) odd;
    register<bit<130>>(2) huge;
    counter(4, CounterType.packets_and_bytes) kinds;
    meter(3, MeterType.bytes) limit;
    direct_counter(CounterType.packets_and_bytes) rule_counter;
    direct_meter<bit<2>>(MeterType.packets) rule_meter;

    @max_group_size(5)
    action_selector(HashAlgorithm.crc16, 9, 16) paths;
    @max_group_size(4)
    @selector_size_semantics("sum_of_members")
    @max_member_weight(3)
    action_selector(HashAlgorithm.crc16, 6, 16) lanes;
    action_profile(4) hops;

    action drop() {
        mark_to_drop(std);
    }
    action send(bit<9> port) {
        std.egress_spec = port;
    }
    action rewrite(bit<9> port, bit<48> dst) {
        std.egress_spec = port;
        hdr.ethernet.dst = dst;
    }
    action flood(bit<16> group) {
        std.mcast_grp = group;
    }
    action note() {
        rule_counter.count();
        rule_meter.read(meta.colour);
    }

    table spread {
        key = {
            hdr.ethernet.dst: exact @name("dst");
            hdr.ethernet.src: selector;
        }
        actions = { send; rewrite; drop; @defaultonly NoAction; }
        implementation = paths;
        size = 8;
    }
    table fallback {
        key = {
            hdr.ethernet.ether_type: ternary @name("ether_type");
            hdr.ethernet.src: selector;
        }
        actions = { send; rewrite; drop; @defaultonly NoAction; }
        implementation = paths;
        size = 8;
    }
    table lane {
        key = {
            std.ingress_port: range @name("port");
            hdr.ethernet.src: selector;
        }
        actions = { send; drop; }
        implementation = lanes;
        size = 8;
    }
    table steer {
        key = { hdr.ethernet.src: lpm @name("src"); }
        actions = { send; rewrite; @defaultonly NoAction; }
        implementation = hops;
        size = 6;
    }
    table rules {
        key = {
            hdr.ethernet.src: optional @name("src");
            hdr.ethernet.dst: ternary @name("dst");
        }
        actions = { note; NoAction; }
        default_action = NoAction();
        counters = rule_counter;
        meters = rule_meter;
        support_timeout = true;
        size = 8;
    }
    table wide {
        key = { hdr.ethernet.dst: exact @name("dst"); }
        actions = { send; rewrite; flood; @tableonly drop; @defaultonly NoAction; }
        support_timeout = true;
        size = 8;
    }

    apply {
        if (!spread.apply().hit) {
            fallback.apply();
        }
        lane.apply();
        steer.apply();
        rules.apply();
        wide.apply();
        limit.execute_meter<bit<2>>(1, meta.colour);
        kinds.count((bit<32>)meta.colour);
        last.write(0, hdr.ethernet.src);
        odd.write(1, 5);
        bit<130> all;
        huge.read(all, 1);
        huge.write(0, all + 1);
        if (hdr.tag.isValid()) {
            digest<odd_t>(1, { hdr.ethernet.ether_type });
        } else {
            digest<seen_t>(1, { hdr.ethernet.src, std.ingress_port });
        }
        if (meta.colour == 2) {
            clone(CloneType.I2E, 5);
        }
    }
}

control HoldingsEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply { }
}

control HoldingsCompute(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

control HoldingsDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

V1Switch(HoldingsParser(), HoldingsVerify(), HoldingsIngress(), HoldingsEgress(), HoldingsCompute(), HoldingsDeparser()) main;
