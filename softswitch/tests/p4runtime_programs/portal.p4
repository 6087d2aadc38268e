// A small program for the tests of the P4Runtime server: every match kind, every direct and indirect resource, constant
// entries and defaults, action scopes, packet-in and packet-out. Compile with compile.sh.
#include <core.p4>
#include <v1model.p4>

const bit<9> CPU_PORT = 510;

@controller_header("packet_in")
header packet_in_t {
    bit<9> ingress_port;
    bit<7> reason;
}

@controller_header("packet_out")
header packet_out_t {
    bit<9> egress_port;
    bit<7> pad;
}

header ethernet_t {
    bit<48> dst;
    bit<48> src;
    bit<16> ether_type;
}

struct headers_t {
    packet_in_t packet_in;
    packet_out_t packet_out;
    ethernet_t ethernet;
}

struct metadata_t {
    bit<2> colour;
}

parser PortalParser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        transition select(std.ingress_port) {
            CPU_PORT: from_cpu;
            default: frame;
        }
    }
    state from_cpu {
        packet.extract(hdr.packet_out);
        transition frame;
    }
    state frame {
        packet.extract(hdr.ethernet);
        transition accept;
    }
}

control PortalVerify(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

control PortalIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    direct_counter(CounterType.packets_and_bytes) wire_counter;
    direct_meter<bit<2>>(MeterType.packets) metered_meter;
    @name("frames") counter(16, CounterType.packets_and_bytes) frames;
    @name("limit") meter(4, MeterType.packets) limit;

    @name("drop") action drop() {
        mark_to_drop(std);
    }

    @name("punt") action punt(bit<7> reason) {
        hdr.packet_in.setValid();
        hdr.packet_in.ingress_port = std.ingress_port;
        hdr.packet_in.reason = reason;
        std.egress_spec = CPU_PORT;
    }

    @name("send") action send(bit<9> port) {
        std.egress_spec = port;
        wire_counter.count();
    }

    @name("wire_miss") action wire_miss() {
        mark_to_drop(std);
    }

    @name("wire") table wire {
        key = { std.ingress_port: exact @name("port"); }
        actions = { @tableonly send; @defaultonly wire_miss; }
        const default_action = wire_miss();
        counters = wire_counter;
        size = 1024;
    }

    @name("set_src") action set_src(bit<48> src) {
        hdr.ethernet.src = src;
    }

    @name("route") table route {
        key = { hdr.ethernet.dst: lpm @name("dst"); }
        actions = { set_src; drop; NoAction; }
        default_action = NoAction();
        size = 4;
    }

    @name("acl") table acl {
        key = {
            hdr.ethernet.src: ternary @name("src");
            hdr.ethernet.ether_type: range @name("ether_type");
            std.ingress_port: optional @name("port");
        }
        actions = { drop; punt; NoAction; }
        default_action = NoAction();
        size = 64;
    }

    @name("mark") action mark() {
        metered_meter.read(meta.colour);
    }

    @name("metered") table metered {
        key = { hdr.ethernet.dst: exact @name("dst"); }
        actions = { mark; NoAction; }
        default_action = NoAction();
        meters = metered_meter;
        size = 64;
    }

    @name("classify") action classify(bit<32> index) {
        frames.count(index);
    }

    @name("classes") table classes {
        key = { hdr.ethernet.ether_type: exact @name("ether_type"); }
        actions = { classify; NoAction; }
        default_action = NoAction();
        const entries = {
            0x0800: classify(1);
            0x86dd: classify(2);
        }
    }

    apply {
        if (hdr.packet_out.isValid()) {
            std.egress_spec = hdr.packet_out.egress_port;
            hdr.packet_out.setInvalid();
        } else {
            wire.apply();
            classes.apply();
            route.apply();
            limit.execute_meter<bit<2>>(0, meta.colour);
            if (meta.colour == 2) {
                drop();
            }
            if (metered.apply().hit) {
                if (meta.colour == 2) {
                    drop();
                }
            }
            acl.apply();
        }
    }
}

control PortalEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply { }
}

control PortalCompute(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

control PortalDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.packet_in);
        packet.emit(hdr.ethernet);
    }
}

V1Switch(PortalParser(), PortalVerify(), PortalIngress(), PortalEgress(), PortalCompute(), PortalDeparser()) main;
