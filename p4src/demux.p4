/* Demux: the IPvN router for a client's packet.
 *
 *   demux (protocol, provider) ─┬─ to_router ───────────────────────────▶ meta.router
 *                               ├─ to_set ─▶ bucket (set, client hash & mask) ─▶ meta.router
 *                               └─ miss ──▶ drop no_route, and the controller is told
 *
 * A bucket of a draining router (to_draining) has two: the client's own, where the switch has seen it there not long ago,
 * else the one that is to have the bucket. While it learns, it takes every client for one that was there.
 */

#ifndef DMUX_DEMUX_P4
#define DMUX_DEMUX_P4

control Demux(in headers_t hdr, inout metadata_t meta) {
    ClientBucket() client_bucket;
    ClientPresence() client_presence;

    @name(".to_router")
    @id(ACTION_TO_ROUTER)
    action to_router(@refers_to("router", "router") bit<32> router) {
        meta.router = router;
    }

    /* The mask is one less than the number of buckets of the set, which is a power of two. */
    @name(".to_set")
    @id(ACTION_TO_SET)
    action to_set(@refers_to("bucket", "set") bit<32> set, bit<16> mask) {
        meta.set = set;
        meta.bucket_mask = mask;
    }

    @name(".no_route")
    @id(ACTION_NO_ROUTE)
    action no_route() {
        meta.drop_reason = DropReason.NO_ROUTE;
        meta.punt_reason = PuntReason.NO_ROUTE;
    }

    /* `idle` is in ticks of 2^20 µs (arch/v1model/objects.p4). */
    @name(".to_draining")
    @id(ACTION_TO_DRAINING)
    action to_draining(@refers_to("router", "router") bit<32> leaving, @refers_to("router", "router") bit<32> router,
                       bit<32> idle, bit<8> learning) {
        meta.leaving = leaving;
        meta.router = router;
        meta.idle = idle;
        meta.learning = learning;
    }

    /* Any provider is provider 1, an entry like any other. */
    @name(".demux")
    @id(TABLE_DEMUX)
    table demux {
        key = {
            hdr.shim.protocol : exact @name("protocol");
            hdr.shim.provider : exact @name("provider");
        }
        actions = { to_router; to_set; @defaultonly no_route; }
        const default_action = no_route();
        size = DEMUX_SIZE;
    }

    @name(".bucket")
    @id(TABLE_BUCKET)
    table bucket {
        key = {
            meta.set : exact @name("set");
            meta.bucket : exact @name("bucket");
        }
        actions = { to_router; to_draining; @defaultonly drop(meta); }
        const default_action = drop(meta, DropReason.NO_BUCKET);
        size = BUCKET_SIZE;
    }

    apply {
        switch (demux.apply().action_run) {
            to_set: {
                client_bucket.apply(hdr, meta);
                meta.bucket = meta.bucket & meta.bucket_mask;
                bucket.apply();
                if (meta.leaving != 0) {
                    client_presence.apply(hdr, meta);
                    if (meta.present) {
                        meta.router = meta.leaving;
                    }
                }
            }
        }
    }
}

#endif
