// A small program for the tests of action profiles, selectors, idle timeouts and meters. Compile with compile.sh.
#include <core.p4>
#include <v1model.p4>

header ethernet_t {
    bit<48> dst;
    bit<48> src;
    bit<16> ether_type;
}

struct headers_t {
    ethernet_t ethernet;
}

struct metadata_t {
    bit<2> colour;
}

parser FanoutParser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.ethernet);
        transition accept;
    }
}

control FanoutVerify(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

control FanoutIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    direct_counter(CounterType.packets_and_bytes) flow_counter;
    direct_meter<bit<2>>(MeterType.bytes) flow_meter;
    @name("limit") meter(4, MeterType.bytes) limit;

    @max_group_size(8)
    @name("paths") action_selector(HashAlgorithm.crc16, 64, 16) paths;

    @name("hops") action_profile(4) hops;

    @name("drop") action drop() {
        mark_to_drop(std);
    }

    @name("send") action send(bit<9> port) {
        std.egress_spec = port;
    }

    @name("rewrite") action rewrite(bit<9> port, bit<48> dst) {
        std.egress_spec = port;
        hdr.ethernet.dst = dst;
    }

    // Where a frame goes, spread over the members of a group by its source.
    @name("spread") table spread {
        key = {
            hdr.ethernet.dst: exact @name("dst");
            hdr.ethernet.src: selector;
        }
        actions = { send; rewrite; drop; NoAction; }
        implementation = paths;
        size = 64;
    }

    // The same members, for frames that `spread` does not know.
    @name("fallback") table fallback {
        key = {
            hdr.ethernet.ether_type: ternary @name("ether_type");
            hdr.ethernet.src: selector;
        }
        actions = { send; rewrite; drop; NoAction; }
        implementation = paths;
        size = 64;
    }

    // Without a selector.
    @name("steer") table steer {
        key = { std.ingress_port: exact @name("port"); }
        actions = { send; rewrite; NoAction; }
        implementation = hops;
        size = 16;
    }

    @name("note") action note() {
        flow_counter.count();
        flow_meter.read(meta.colour);
    }

    @name("flows") table flows {
        key = { hdr.ethernet.src: exact @name("src"); }
        actions = { note; NoAction; }
        default_action = NoAction();
        counters = flow_counter;
        meters = flow_meter;
        support_timeout = true;
        size = 1024;
    }

    apply {
        mark_to_drop(std);
        if (!spread.apply().hit) {
            fallback.apply();
        }
        steer.apply();
        if (flows.apply().hit) {
            if (meta.colour == 2) {
                drop();
            }
        }
        limit.execute_meter<bit<2>>(1, meta.colour);
        if (meta.colour == 2) {
            drop();
        }
    }
}

control FanoutEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply { }
}

control FanoutCompute(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

control FanoutDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.ethernet);
    }
}

V1Switch(FanoutParser(), FanoutVerify(), FanoutIngress(), FanoutEgress(), FanoutCompute(), FanoutDeparser()) main;
