/* Service: which of our own services a packet from the WAN is addressed to, and whether it is well-formed for it.
 *
 *   local_service ─┬─ miss ──────────────────────────▶ transit: routed
 *                  ├─ shim_service ── kind 0 ────────▶ tunnel
 *                  └─ gateway_service ─┬─ kind 2 ────▶ back
 *                                      └─ kind 5 ────▶ reflect
 *
 * Control messages (kind 4) and probe replies have been punted before this.
 */

#ifndef DMUX_SERVICE_P4
#define DMUX_SERVICE_P4

control Service(in headers_t hdr, inout metadata_t meta) {
    @name(".shim_service")
    @id(ACTION_SHIM_SERVICE)
    action shim_service(@refers_to("service_source", "service_index") bit<16> service_index,
                        @format(IPV4_ADDRESS) bit<32> gateway_addr) {
        meta.service = SERVICE_SHIM;
        meta.service_index = service_index;
        meta.new_src = gateway_addr;
    }

    @name(".gateway_service")
    @id(ACTION_GATEWAY_SERVICE)
    action gateway_service() {
        meta.service = SERVICE_GATEWAY;
    }

    @name(".local_service")
    @id(TABLE_LOCAL_SERVICE)
    table local_service {
        key = {
            hdr.ipv4.dst : exact @name("dst") @format(IPV4_ADDRESS);
            meta.protocol : exact @name("protocol");
            meta.dst_port : exact @name("dst_port");
        }
        actions = { shim_service; gateway_service; @defaultonly NoAction; }
        const default_action = NoAction();
        size = LOCAL_SERVICE_SIZE;
    }

    apply {
        local_service.apply();
        if (meta.service != SERVICE_NONE) {
            meta.length_difference = hdr.ipv4.total_len - IPV4_BYTES;
            meta.length_difference = meta.length_difference - hdr.udp.len;
            if (!hdr.shim.isValid() || meta.length_difference != 0) {
                meta.drop_reason = DropReason.BAD_UDP_LENGTH;
            } else if (meta.shim_kind == SHIM_KIND_NONE) {
                meta.drop_reason = DropReason.BAD_SHIM_VERSION;
            } else if (meta.service == SERVICE_SHIM) {
                if (hdr.shim.kind != SHIM_KIND_DATA) {
                    meta.drop_reason = DropReason.BAD_SHIM_KIND;
                } else {
                    meta.path = Path.TUNNEL;
                }
            } else {
                if (hdr.shim.kind == SHIM_KIND_RETURN) {
                    if (!hdr.origin.isValid()) {
                        meta.drop_reason = DropReason.BAD_UDP_LENGTH;
                    } else {
                        meta.path = Path.BACK;
                    }
                } else if (hdr.shim.kind == SHIM_KIND_PROBE) {
                    if (!hdr.probe.isValid() || meta.probe_type != PROBE_REQUEST) {
                        meta.drop_reason = DropReason.BAD_PROBE;
                    } else {
                        meta.path = Path.REFLECT;
                    }
                } else {
                    meta.drop_reason = DropReason.BAD_SHIM_KIND;
                }
            }
        }
    }
}

#endif
