/* Verdict: what becomes of the frame. The only place where frames are punted, dropped and counted.
 *
 *   punt_reason ─▶ meter ─┬─ not red ─▶ to the controller, as it came in
 *                         └─ red ─────▶ dropped
 *   drop_reason ─▶ counted, and dropped unless the controller gets it
 *   neither     ─▶ rewritten and sent
 *
 * Every frame that is not forwarded by the data plane, save a plain punt, counts under exactly one drop reason; what a stage
 * both drops and punts (TTL, size, no route) counts under the stage's reason whether or not the meter lets the copy pass.
 */

#ifndef DMUX_VERDICT_P4
#define DMUX_VERDICT_P4

control Rewrite(inout headers_t hdr, inout metadata_t meta) {
    DeliverRewrite() deliver_rewrite;
    ReturnRewrite() return_rewrite;
    ReflectRewrite() reflect_rewrite;
    RouteRewrite() route_rewrite;
    MetalinkRewrite() metalink_rewrite;
    SaveOldWords() save_old_words;

    apply {
        if (meta.path == Path.TUNNEL || meta.path == Path.BACK) {
            save_old_words.apply(hdr, meta);
            if (meta.path == Path.TUNNEL) {
                deliver_rewrite.apply(hdr, meta);
            } else {
                return_rewrite.apply(hdr, meta);
            }
        } else if (meta.path == Path.REFLECT) {
            reflect_rewrite.apply(hdr, meta);
        } else if (meta.path == Path.ORIGINATE && meta.probe_type == PROBE_REQUEST) {
            meta.stamp = Stamp.T_OUT;
        }
        if (meta.to_metalink) {
            metalink_rewrite.apply(hdr, meta);
        } else {
            route_rewrite.apply(hdr, meta);
        }
    }
}

control Verdict(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t intrinsic) {
    PuntMeter() punt_meter;
    CountDrop() count_drop;
    Rewrite() rewrite;
    SendToController() send_to_controller;
    SendToPort() send_to_port;
    SendToGroup() send_to_group;
    ReportSource() report_source;
    DropFrame() drop_frame;

    apply {
        /* It is not the frame that came in any more, and there is nobody to send an ICMP message to. */
        if (meta.from_metalink) {
            meta.punt_reason = PuntReason.NONE;
        }
        if (meta.punt_reason != PuntReason.NONE) {
            punt_meter.apply(meta);
            if (meta.punt_color == COLOR_RED) {
                meta.punt_reason = PuntReason.NONE;
                if (meta.drop_reason == DropReason.NONE) {
                    meta.drop_reason = DropReason.PUNT_RATE;
                }
            }
        }
        if (meta.drop_reason == DropReason.NONE && meta.punt_reason == PuntReason.NONE) {
            if (meta.path == Path.PACKET_OUT) {
                meta.egress_port = hdr.packet_out.egress_port[8:0];
            } else if (meta.path != Path.LAN) {
                rewrite.apply(hdr, meta);
            }
            if (meta.flood) {
                send_to_group.apply(meta.flood_group, intrinsic);
            } else {
                send_to_port.apply(meta.egress_port, meta.queue, intrinsic);
            }
            if (meta.new_source) {
                report_source.apply(hdr, meta);
            }
        } else {
            if (meta.drop_reason != DropReason.NONE) {
                count_drop.apply(meta);
            }
            if (meta.punt_reason != PuntReason.NONE) {
                send_to_controller.apply(hdr, meta, intrinsic);
            } else {
                drop_frame.apply(intrinsic);
            }
        }
    }
}

#endif
