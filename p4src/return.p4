/* Return: an IPvN router's packet (kind 2) becomes one for the client (kind 3), from the service address that the client used;
 * or, with flag M, one for an endpoint on a metalink (metalink.p4).
 *
 *   return_source ─▶ service_source ─▶ where from ... verdict ... ReturnRewrite: Eth | IPv4 | UDP | shim | origin | payload
 *                                                                             ─▶ Eth | IPv4 | UDP | shim | payload
 *
 * Only a registered router may return packets, and only for the protocol that it is registered for: no open reflector.
 */

#ifndef DMUX_RETURN_P4
#define DMUX_RETURN_P4

control Return(in headers_t hdr, inout metadata_t meta) {
    @name(".return_source_counter")
    @id(COUNTER_RETURN_SOURCE)
    DIRECT_COUNTER(return_source_counter);

    @name(".accept_return")
    @id(ACTION_ACCEPT_RETURN)
    action accept_return() {
        meta.dst = hdr.origin.client;
        meta.new_dst_port = hdr.origin.client_port;
        meta.growth = GROWTH_RETURN;
        return_source_counter.count();
    }

    @name(".return_source")
    @id(TABLE_RETURN_SOURCE)
    table return_source {
        key = {
            hdr.ipv4.src : exact @name("src") @format(IPV4_ADDRESS);
            hdr.udp.src_port : exact @name("src_port");
            hdr.shim.protocol : exact @name("protocol");
        }
        actions = { accept_return; @defaultonly drop(meta); }
        const default_action = drop(meta, DropReason.UNREGISTERED_RETURNER);
        counters = return_source_counter;
        size = RETURN_SOURCE_SIZE;
    }

    @name(".set_service_source")
    @id(ACTION_SET_SERVICE_SOURCE)
    action set_service_source(@format(IPV4_ADDRESS) bit<32> src, bit<16> src_port) {
        meta.new_src = src;
        meta.new_src_port = src_port;
    }

    @name(".service_source")
    @id(TABLE_SERVICE_SOURCE)
    table service_source {
        key = { hdr.origin.service_index : exact @name("service_index"); }
        actions = { set_service_source; @defaultonly drop(meta); }
        const default_action = drop(meta, DropReason.BAD_SERVICE_INDEX);
        size = SERVICE_SOURCE_SIZE;
    }

    apply {
        return_source.apply();
        if (meta.drop_reason == DropReason.NONE) {
            if (hdr.shim.flags & SHIM_FLAG_METALINK != 0) {
                meta.to_metalink = true;
                meta.mli = hdr.origin.client[23:0];
                meta.mli_gateway = hdr.origin.client_port;
            } else {
                service_source.apply();
            }
        }
    }
}

control ReturnRewrite(inout headers_t hdr, inout metadata_t meta) {
    apply {
        meta.delta.origin_client = ~hdr.origin.client;
        meta.delta.origin_rest = ~(hdr.origin.client_port ++ hdr.origin.service_index);
        hdr.origin.setInvalid();

        hdr.ipv4.src = meta.new_src;
        hdr.ipv4.dst = meta.dst;
        hdr.ipv4.total_len = hdr.ipv4.total_len - ORIGIN_BYTES;
        hdr.udp.src_port = meta.new_src_port;
        hdr.udp.dst_port = meta.new_dst_port;
        hdr.udp.len = hdr.udp.len - ORIGIN_BYTES;
        hdr.shim.kind = SHIM_KIND_DELIVER;
        hdr.shim.flags = 0;
    }
}

#endif
