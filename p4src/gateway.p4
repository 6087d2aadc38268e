/* The dmux gateway.
 *
 *            ┌─────────────────────────────── ingress ───────────────────────────────┐            ┌─ egress ─┐
 *   parser ─▶│ admit ─▶ punt ─▶ service ─┬─ demux ─▶ deliver ─┬─▶ route ─▶ verdict ──│─▶ queue ─▶ │  stamp   │─▶ deparser
 *            │   │               ▲   ▲   ├─ return ───────────┤       or    │        │            │  probe,  │
 *            │   └──▶ access ────┼───┘   ├─ probe ────────────┤   metalink  │        │            │  prune   │
 *            │           │     metalink  └─ transit ──────────┘         punt, drop or│            └──────────┘
 *            │           └─────▶ lan ──────────────────────────────────────▶rewrite  │
 *            └───────────────────────────────────────────────────────────────────────┘
 *
 * Stages decide in metadata; the verdict at the end alone punts, drops, counts and rewrites. So a punted frame is the
 * frame that came in, and a frame counts under one reason. The stages are in files of their own, named as above; what a
 * target does its own way is in arch/. README.md has the words.
 */

#include <core.p4>
#include <v1model.p4>

#include "include/ids.p4"
#include "include/constants.p4"
#include "include/headers.p4"
#include "include/parser.p4"

#include "arch/v1model/objects.p4"
#include "arch/v1model/checksum.p4"
#include "arch/v1model/packet_io.p4"

#include "admit.p4"
#include "punt.p4"
#include "service.p4"
#include "demux.p4"
#include "deliver.p4"
#include "return.p4"
#include "probe.p4"
#include "route.p4"
#include "metalink.p4"
#include "lan.p4"
#include "access.p4"
#include "verdict.p4"

control GatewayIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t intrinsic) {
    Admit() admit;
    Access() access;
    Punt() punt;
    Service() service;
    Demux() demux;
    Deliver() deliver;
    Return() back;
    Probe() probe;
    Route() route;
    MetalinkOut() metalink_out;
    Verdict() verdict;

    apply {
        admit.apply(hdr, meta);

        if (meta.drop_reason == DropReason.NONE) {
            if (meta.path == Path.TRANSIT) {
                punt.apply(meta);
            } else if (meta.path == Path.ACCESS) {
                access.apply(hdr, meta);
            }
        }
        if (meta.drop_reason == DropReason.NONE && meta.punt_reason == PuntReason.NONE && meta.path != Path.PACKET_OUT &&
            meta.path != Path.LAN) {
            if (!hdr.ipv4.isValid()) {
                meta.drop_reason = DropReason.UNSUPPORTED_ETHERTYPE;
            } else if (meta.path == Path.TRANSIT) {
                service.apply(hdr, meta);
            }

            if (meta.drop_reason == DropReason.NONE) {
                if (meta.path == Path.TUNNEL) {
                    demux.apply(hdr, meta);
                    if (meta.drop_reason == DropReason.NONE) {
                        deliver.apply(meta);
                    }
                } else if (meta.path == Path.BACK) {
                    back.apply(hdr, meta);
                } else if (meta.path == Path.REFLECT) {
                    probe.apply(hdr, meta);
                }
            }
            if (meta.drop_reason == DropReason.NONE) {
                if (meta.to_metalink) {
                    metalink_out.apply(hdr, meta);
                } else {
                    route.apply(hdr, meta);
                }
            }
        }

        verdict.apply(hdr, meta, intrinsic);
    }
}

#include "arch/v1model/shell.p4"
