/* v1model: the pipeline shell. Translates between standard_metadata and what the portable controls know. */

#ifndef DMUX_V1MODEL_SHELL_P4
#define DMUX_V1MODEL_SHELL_P4

/* A header is invalid until it is extracted; p4c would rather see each one set invalid, for every packet. */
@noWarn("uninitialized-use")
parser V1Parser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t intrinsic) {
    GatewayParser() gateway_parser;

    state start {
        gateway_parser.apply(packet, hdr, meta, intrinsic.ingress_port);
        transition accept;
    }
}

control V1Ingress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t intrinsic) {
    GatewayIngress() ingress;

    apply {
        meta.ingress_port = intrinsic.ingress_port;
        meta.t_in = intrinsic.ingress_global_timestamp;
        meta.frame_len = intrinsic.packet_length;
        if (hdr.packet_out.isValid()) {
            meta.frame_len = intrinsic.packet_length - PACKET_OUT_BYTES;
        }
        meta.parse_failed = intrinsic.parser_error != error.NoError;
        meta.checksum_failed = intrinsic.checksum_error == 1;
        ingress.apply(hdr, meta, intrinsic);
    }
}

control V1Egress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t intrinsic) {
    StampProbe() stamp_probe;

    apply {
        if (meta.flood && intrinsic.egress_port == meta.ingress_port) {
            mark_to_drop(intrinsic);
        }
        stamp_probe.apply(hdr, meta, intrinsic.egress_global_timestamp);
    }
}

V1Switch(V1Parser(), GatewayVerifyChecksum(), V1Ingress(), V1Egress(), GatewayComputeChecksum(), GatewayDeparser()) main;

#endif
