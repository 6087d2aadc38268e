/* v1model: the ways out of the pipeline: to the controller, out of a port, nowhere. */

#ifndef DMUX_V1MODEL_PACKET_IO_P4
#define DMUX_V1MODEL_PACKET_IO_P4

control SendToController(inout headers_t hdr, in metadata_t meta, inout standard_metadata_t intrinsic) {
    apply {
        hdr.packet_in.setValid();
        hdr.packet_in.ingress_port = (bit<16>)meta.ingress_port;
        hdr.packet_in.reason = meta.punt_reason;
        hdr.packet_in.pad = 0;
        hdr.packet_in.path_mtu = 0;
        hdr.packet_in.t_in = meta.t_in;
        if (meta.punt_reason == PuntReason.TOO_BIG) {
            hdr.packet_in.path_mtu = meta.path_mtu[15:0];
        }
        intrinsic.egress_spec = CPU_PORT;
    }
}

/* Queue 7 is served first; a target without priority queues has queue 0 only. */
control SendToPort(in bit<9> port, in bit<3> queue, inout standard_metadata_t intrinsic) {
    apply {
        intrinsic.egress_spec = port;
        intrinsic.priority = queue;
    }
}

/* To every port of the multicast group; egress drops the copy for the port that the frame came from. */
control SendToGroup(in bit<16> group, inout standard_metadata_t intrinsic) {
    apply {
        intrinsic.mcast_grp = group;
    }
}

control DropFrame(inout standard_metadata_t intrinsic) {
    apply {
        mark_to_drop(intrinsic);
    }
}

#endif
