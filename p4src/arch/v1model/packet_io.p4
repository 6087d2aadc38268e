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

control SendToPort(in bit<9> port, inout standard_metadata_t intrinsic) {
    apply {
        intrinsic.egress_spec = port;
    }
}

control DropFrame(inout standard_metadata_t intrinsic) {
    apply {
        mark_to_drop(intrinsic);
    }
}

#endif
