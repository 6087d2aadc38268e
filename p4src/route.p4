/* Route: the way out for a packet, by meta.dst (its own destination, or where an earlier stage sends it).
 *
 *   ipv4_route ─┬─ via ─────────────────────────────▶ nexthop ─▶ TTL ─▶ MTU ─▶ ... verdict ... RouteRewrite
 *               ├─ via_group ─▶ first + (hash & mask) ─▶
 *               └─ drop_local: ours, but nothing listens
 */

#ifndef DMUX_ROUTE_P4
#define DMUX_ROUTE_P4

control Route(in headers_t hdr, inout metadata_t meta) {
    FlowHash() flow_hash;

    @name(".via")
    @id(ACTION_VIA)
    action via(@refers_to("nexthop", "nexthop") bit<16> nexthop) {
        meta.nexthop = nexthop;
    }

    /* mask is the number of members, a power of two, less one. */
    @name(".via_group")
    @id(ACTION_VIA_GROUP)
    action via_group(@refers_to("nexthop", "nexthop") bit<16> first, bit<16> mask) {
        meta.nexthop = first;
        meta.member_mask = mask;
    }

    @name(".drop_local")
    @id(ACTION_DROP_LOCAL)
    action drop_local() {
        meta.drop_reason = DropReason.NO_SERVICE;
    }

    @name(".ipv4_route")
    @id(TABLE_IPV4_ROUTE)
    table ipv4_route {
        key = { meta.dst : lpm @name("dst") @format(IPV4_ADDRESS); }
        actions = { via; via_group; drop_local; @defaultonly drop(meta); }
        const default_action = drop(meta, DropReason.NO_IPV4_ROUTE);
        size = IPV4_ROUTE_SIZE;
    }

    @name(".set_nexthop")
    @id(ACTION_SET_NEXTHOP)
    action set_nexthop(bit<9> port, @format(MAC_ADDRESS) bit<48> src_mac, @format(MAC_ADDRESS) bit<48> dst_mac, bit<16> mtu) {
        meta.egress_port = port;
        meta.src_mac = src_mac;
        meta.dst_mac = dst_mac;
        meta.path_mtu = (bit<32>)mtu - meta.growth;
    }

    @name(".nexthop")
    @id(TABLE_NEXTHOP)
    table nexthop {
        key = { meta.nexthop : exact @name("nexthop"); }
        actions = { set_nexthop; @defaultonly drop(meta); }
        const default_action = drop(meta, DropReason.NO_NEXTHOP);
        size = NEXTHOP_SIZE;
    }

    apply {
        ipv4_route.apply();
        if (meta.drop_reason == DropReason.NONE) {
            if (meta.member_mask != 0) {
                flow_hash.apply(hdr, meta);
                meta.flow_hash = meta.flow_hash & meta.member_mask;
                meta.nexthop = meta.nexthop + meta.flow_hash;
            }
            nexthop.apply();
        }
        if (meta.drop_reason == DropReason.NONE) {
            meta.room = meta.path_mtu - (bit<32>)hdr.ipv4.total_len;
            /* What this switch or its controller originates has its first hop ahead of it. */
            if (hdr.ipv4.ttl <= 1 && meta.path != Path.ORIGINATE && meta.path != Path.REFLECT) {
                meta.drop_reason = DropReason.TTL_EXPIRED;
                meta.punt_reason = PuntReason.TTL_EXPIRED;
            } else if (meta.room[31:31] == 1) {
                meta.drop_reason = DropReason.TOO_BIG;
                /* The controller knows the MTU of what it sends: do not send it back to it. */
                if (meta.path != Path.ORIGINATE) {
                    meta.punt_reason = PuntReason.TOO_BIG;
                }
            }
        } else if (meta.drop_reason == DropReason.NO_SERVICE) {
            /* A later fragment has no ports, so local_service cannot know it: say what is really wrong with it. */
            if (hdr.ipv4.more_fragments == 1 || hdr.ipv4.fragment_offset != 0) {
                meta.drop_reason = DropReason.FRAGMENT;
            } else if (meta.path == Path.BACK) {
                /* The client is one of our own addresses: an answer to what the controller has sent as received. */
                meta.drop_reason = DropReason.NONE;
                meta.punt_reason = PuntReason.RETURN;
            }
        }
    }
}

control RouteRewrite(inout headers_t hdr, inout metadata_t meta) {
    apply {
        hdr.ethernet.src = meta.src_mac;
        hdr.ethernet.dst = meta.dst_mac;
        if (meta.path != Path.ORIGINATE && meta.path != Path.REFLECT) {
            hdr.ipv4.ttl = hdr.ipv4.ttl - 1;
        }
        meta.ipv4_changed = true;
    }
}

#endif
