// A small program for the tests of egress queues: a frame says where it goes, and is told how it has waited. Compile with
// compile.sh.
#include <core.p4>
#include <v1model.p4>

header ask_t {
    bit<8>  port;
    bit<8>  priority;
    // 1 a clone to session 1 from ingress, 2 one from egress, 4 to multicast group 1, 8 recirculates once.
    bit<8>  extras;
    bit<8>  number;
}

header told_t {
    bit<32> enq_timestamp;
    bit<24> enq_qdepth;
    bit<32> deq_timedelta;
    bit<24> deq_qdepth;
    bit<8>  qid;
    bit<8>  priority;
    bit<48> ingress_time;
    bit<48> egress_time;
    bit<8>  instance;
}

struct headers_t {
    ask_t  ask;
    told_t told;
}

struct metadata_t {
    // `queueing_metadata.qid` to the switch, once the test has said so in the JSON: v1model.p4 does not have it.
    bit<8> qid;
    @field_list(1) bit<8> rounds;
}

parser QueuesParser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.ask);
        transition accept;
    }
}

control QueuesVerify(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

control QueuesIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        std.egress_spec = (bit<9>)hdr.ask.port;
        std.priority = hdr.ask.priority[2:0];
        if (hdr.ask.extras & 1 != 0) {
            clone_preserving_field_list(CloneType.I2E, 1, 1);
        }
        if (hdr.ask.extras & 4 != 0) {
            std.mcast_grp = 1;
        }
    }
}

control QueuesEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        hdr.told.setValid();
        hdr.told.enq_timestamp = std.enq_timestamp;
        hdr.told.enq_qdepth = (bit<24>)std.enq_qdepth;
        hdr.told.deq_timedelta = std.deq_timedelta;
        hdr.told.deq_qdepth = (bit<24>)std.deq_qdepth;
        hdr.told.qid = meta.qid;
        hdr.told.priority = (bit<8>)std.priority;
        hdr.told.ingress_time = std.ingress_global_timestamp;
        hdr.told.egress_time = std.egress_global_timestamp;
        hdr.told.instance = (bit<8>)std.instance_type;
        if (hdr.ask.extras & 2 != 0 && std.instance_type == 0) {
            clone_preserving_field_list(CloneType.E2E, 1, 1);
        }
        if (hdr.ask.extras & 8 != 0 && meta.rounds == 0) {
            meta.rounds = 1;
            hdr.told.setInvalid();
            recirculate_preserving_field_list(1);
        }
    }
}

control QueuesCompute(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

control QueuesDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.ask);
        packet.emit(hdr.told);
    }
}

V1Switch(QueuesParser(), QueuesVerify(), QueuesIngress(), QueuesEgress(), QueuesCompute(), QueuesDeparser()) main;
