/* Deliver: a client's packet (kind 0) becomes a tunnelled one (kind 1) to its IPvN router.
 *
 *   router ─▶ where to ... verdict ... DeliverRewrite: Eth | IPv4 | UDP | shim | payload
 *                                                   ─▶ Eth | IPv4 | UDP | shim | origin | payload
 */

#ifndef DMUX_DELIVER_P4
#define DMUX_DELIVER_P4

control Deliver(inout metadata_t meta) {
    @name(".router_counter")
    @id(COUNTER_ROUTER)
    DIRECT_COUNTER(router_counter);

    @name(".tunnel")
    @id(ACTION_TUNNEL)
    action tunnel(@format(IPV4_ADDRESS) bit<32> dst, bit<16> dst_port) {
        meta.dst = dst;
        meta.new_dst_port = dst_port;
        meta.growth = GROWTH_TUNNEL;
        router_counter.count();
    }

    /* A router that is an endpoint of an access LAN itself. */
    @name(".to_metalink")
    @id(ACTION_TO_METALINK)
    action to_metalink(bit<24> mli, bit<16> gateway) {
        meta.to_metalink = true;
        meta.mli = mli;
        meta.mli_gateway = gateway;
        meta.growth = GROWTH_TUNNEL;
        router_counter.count();
    }

    @name(".router")
    @id(TABLE_ROUTER)
    table router {
        key = { meta.router : exact @name("router"); }
        actions = { tunnel; to_metalink; @defaultonly drop(meta); }
        const default_action = drop(meta, DropReason.NO_ROUTER);
        counters = router_counter;
        size = ROUTER_SIZE;
    }

    apply {
        router.apply();
    }
}

control DeliverRewrite(inout headers_t hdr, inout metadata_t meta) {
    apply {
        hdr.origin.setValid();
        hdr.origin.client = hdr.ipv4.src;
        hdr.origin.client_port = hdr.udp.src_port;
        hdr.origin.service_index = meta.service_index;
        meta.delta.origin_client = hdr.origin.client;
        meta.delta.origin_rest = hdr.origin.client_port ++ hdr.origin.service_index;

        hdr.ipv4.src = meta.new_src;
        hdr.ipv4.dst = meta.dst;
        hdr.ipv4.total_len = hdr.ipv4.total_len + ORIGIN_BYTES;
        hdr.udp.src_port = DMUX_PORT;
        hdr.udp.dst_port = meta.new_dst_port;
        hdr.udp.len = hdr.udp.len + ORIGIN_BYTES;
        hdr.shim.kind = SHIM_KIND_FORWARD;
        /* What the origin is, whatever flags the client has set. */
        hdr.shim.flags = 0;
        if (meta.from_metalink) {
            hdr.shim.flags = SHIM_FLAG_METALINK;
        }
    }
}

#endif
