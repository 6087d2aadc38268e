/* Metalink: a metaframe that comes by a metalink becomes a tunnelled packet, one that leaves by a metalink a substrate frame.
 *
 *   endpoint ─▶ metalink_rx ─┬─ metalink ─────────▶ in profile? ─▶ Normalise: as if tunnelled ─▶ demux, or back
 *                            └─ metalink_control ─▶ punted
 *   deliver, return ─▶ metalink_tx ─▶ in profile? ... verdict ... MetalinkRewrite: Eth | tag | substrate | metaframe
 *                                                               to an IPvN router: Eth | tag | substrate (S) | shim | origin | ...
 *
 * To the stages between, the client's address is 0.x.y.z, its MLI, and its port the GatewayId: so the origin header with
 * flag M comes of itself (DESIGN 3.2), an endpoint has its bucket, and return_source knows IPvN routers on metalinks.
 */

#ifndef DMUX_METALINK_P4
#define DMUX_METALINK_P4

control Normalise(inout headers_t hdr, inout metadata_t meta) {
    apply {
        meta.from_metalink = true;
        if (hdr.substrate.flags & SUBSTRATE_FLAG_SHIM != 0) {
            /* The parser takes an origin header after a shim of kind 2 only. */
            if (!hdr.origin.isValid()) {
                meta.drop_reason = DropReason.BAD_SHIM_KIND;
            }
            meta.path = Path.BACK;
            meta.total_len = meta.frame_len[15:0] + GROWTH_NORMAL_SHIM;
        } else {
            meta.path = Path.TUNNEL;
            meta.total_len = meta.frame_len[15:0] + GROWTH_NORMAL_DATA;
            hdr.shim.setValid();
            hdr.shim.version = SHIM_VERSION;
            hdr.shim.kind = SHIM_KIND_DATA;
            hdr.shim.flags = 0;
            hdr.shim.protocol = meta.metanet_protocol;
            hdr.shim.provider = meta.metanet_provider;
        }
        hdr.ipv4.setValid();
        hdr.ipv4.version = 4;
        hdr.ipv4.ihl = 5;
        hdr.ipv4.dscp_ecn = 0;
        hdr.ipv4.total_len = meta.total_len;
        hdr.ipv4.identification = 0;
        hdr.ipv4.reserved = 0;
        hdr.ipv4.dont_fragment = 1;
        hdr.ipv4.more_fragments = 0;
        hdr.ipv4.fragment_offset = 0;
        hdr.ipv4.ttl = ORIGINATED_TTL;
        hdr.ipv4.protocol = IP_PROTOCOL_UDP;
        hdr.ipv4.checksum = 0;
        hdr.ipv4.src = 8w0 ++ hdr.substrate.mli;
        hdr.ipv4.dst = meta.gateway_addr;
        /* The metaframe's bytes are not summed: no UDP checksum (RFC 768). */
        hdr.udp.setValid();
        hdr.udp.src_port = meta.gateway;
        hdr.udp.dst_port = DMUX_PORT;
        hdr.udp.len = meta.total_len - IPV4_BYTES;
        hdr.udp.checksum = 0;
        meta.new_src = meta.gateway_addr;

        hdr.ethernet.ether_type = ETHER_TYPE_IPV4;
        hdr.vlan.setInvalid();
        hdr.substrate.setInvalid();
    }
}

control MetalinkIn(inout headers_t hdr, inout metadata_t meta) {
    CountRxRed() count_red;
    ReportViolation() report_violation;
    Normalise() normalise;

    @name(".metalink_rx_counter")
    @id(COUNTER_METALINK_RX)
    DIRECT_COUNTER(metalink_rx_counter);

    @name(".metalink_rx_meter")
    @id(METER_METALINK_RX)
    DIRECT_METER(metalink_rx_meter);

    @name(".set_endpoint")
    @id(ACTION_SET_ENDPOINT)
    action set_endpoint(@refers_to("metalink_rx", "endpoint") bit<32> endpoint) {
        meta.endpoint = endpoint;
    }

    /* Whose MLIs count: only those of the endpoint that is attached at this port with this address. So a spoofed frame
     * never touches another's meter. */
    @name(".endpoint")
    @id(TABLE_ENDPOINT)
    table endpoint_table {
        key = {
            meta.ingress_port : exact @name("port");
            hdr.ethernet.src : exact @name("src") @format(MAC_ADDRESS);
        }
        actions = { set_endpoint; @defaultonly drop(meta); }
        const default_action = drop(meta, DropReason.UNKNOWN_ENDPOINT);
        size = ENDPOINT_SIZE;
    }

    @name(".metalink")
    @id(ACTION_METALINK)
    action metalink(bit<16> protocol, bit<32> provider, bit<32> cell, bit<8> police) {
        meta.metanet_protocol = protocol;
        meta.metanet_provider = provider;
        meta.cell = cell;
        meta.police = police;
        metalink_rx_counter.count();
        metalink_rx_meter.read(meta.color);
    }

    @name(".metalink_control")
    @id(ACTION_METALINK_CONTROL)
    action metalink_control(bit<32> cell) {
        meta.punt_reason = PuntReason.METALINK_CONTROL;
        meta.cell = cell;
        meta.police = POLICE;
        metalink_rx_counter.count();
        metalink_rx_meter.read(meta.color);
    }

    @name(".metalink_rx")
    @id(TABLE_METALINK_RX)
    table metalink_rx {
        key = {
            meta.endpoint : exact @name("endpoint");
            hdr.substrate.mli : exact @name("mli");
        }
        actions = { metalink; metalink_control; @defaultonly drop(meta); }
        const default_action = drop(meta, DropReason.UNKNOWN_METALINK);
        counters = metalink_rx_counter;
        meters = metalink_rx_meter;
        size = METALINK_RX_SIZE;
    }

    apply {
        endpoint_table.apply();
        if (meta.drop_reason == DropReason.NONE) {
            metalink_rx.apply();
        }
        if (meta.drop_reason == DropReason.NONE) {
            if (meta.color == COLOR_RED) {
                count_red.apply(meta);
                report_violation.apply(hdr, meta);
                if (meta.police == POLICE) {
                    meta.drop_reason = DropReason.METALINK_RATE;
                    meta.punt_reason = PuntReason.NONE;
                }
            }
            if (meta.drop_reason == DropReason.NONE && meta.punt_reason == PuntReason.NONE) {
                normalise.apply(hdr, meta);
            }
        }
    }
}

control MetalinkOut(in headers_t hdr, inout metadata_t meta) {
    CountTxRed() count_red;

    @name(".metalink_tx_counter")
    @id(COUNTER_METALINK_TX)
    DIRECT_COUNTER(metalink_tx_counter);

    @name(".metalink_tx_meter")
    @id(METER_METALINK_TX)
    DIRECT_METER(metalink_tx_meter);

    @name(".send_metalink")
    @id(ACTION_SEND_METALINK)
    action send_metalink(bit<9> port, @format(MAC_ADDRESS) bit<48> src_mac, @format(MAC_ADDRESS) bit<48> dst_mac,
                         bit<12> vid, bit<3> pcp, bit<3> queue, bit<16> mtu, bit<32> cell) {
        meta.egress_port = port;
        meta.src_mac = src_mac;
        meta.dst_mac = dst_mac;
        meta.out_vid = vid;
        meta.out_pcp = pcp;
        meta.queue = queue;
        meta.path_mtu = (bit<32>)mtu - meta.growth;
        meta.cell = cell;
        metalink_tx_counter.count();
        metalink_tx_meter.read(meta.color);
    }

    /* In ingress, for it chooses port and queue. Only routers of the metalink's own protocol may send to it. */
    @name(".metalink_tx")
    @id(TABLE_METALINK_TX)
    table metalink_tx {
        key = {
            meta.mli_gateway : exact @name("gateway");
            meta.mli : exact @name("mli");
            hdr.shim.protocol : exact @name("protocol");
        }
        actions = { send_metalink; @defaultonly drop(meta); }
        const default_action = drop(meta, DropReason.UNKNOWN_METALINK);
        counters = metalink_tx_counter;
        meters = metalink_tx_meter;
        size = METALINK_TX_SIZE;
    }

    apply {
        metalink_tx.apply();
        if (meta.drop_reason == DropReason.NONE) {
            /* The largest IPv4 packet whose metaframe fits, as for any other way out. */
            if (meta.path == Path.BACK) {
                meta.path_mtu = meta.path_mtu + TUNNEL_SHIM_BYTES;
            } else {
                meta.path_mtu = meta.path_mtu + TUNNEL_BYTES;
            }
            meta.room = meta.path_mtu - (bit<32>)hdr.ipv4.total_len;
            if (meta.color == COLOR_RED) {
                count_red.apply(meta);
                meta.drop_reason = DropReason.METALINK_RATE;
            } else if (meta.room[31:31] == 1) {
                meta.drop_reason = DropReason.TOO_BIG;
                meta.punt_reason = PuntReason.TOO_BIG;
            }
        }
    }
}

control MetalinkRewrite(inout headers_t hdr, inout metadata_t meta) {
    apply {
        hdr.ethernet.dst = meta.dst_mac;
        hdr.ethernet.src = meta.src_mac;
        hdr.ethernet.ether_type = ETHER_TYPE_VLAN;
        hdr.vlan.setValid();
        hdr.vlan.pcp = meta.out_pcp;
        hdr.vlan.dei = 0;
        hdr.vlan.vid = meta.out_vid;
        hdr.vlan.ether_type = ETHER_TYPE_SUBSTRATE;
        hdr.substrate.setValid();
        hdr.substrate.version = SUBSTRATE_VERSION;
        hdr.substrate.flags = SUBSTRATE_FLAG_SHIM;
        hdr.substrate.mli = meta.mli;
        if (meta.path == Path.BACK) {
            hdr.substrate.flags = 0;
            hdr.shim.setInvalid();
        }
        hdr.ipv4.setInvalid();
        hdr.udp.setInvalid();
        meta.udp_changed = false;
    }
}

#endif
