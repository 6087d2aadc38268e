/* Access: which frames of an access LAN are for a metanet, and which are the LAN's own business.
 *
 *   MLI 0 ─▶ discovery_port ─▶ within the port's share? ───────▶ punted: substrate discovery
 *   access_vlan ─┬─ provisioned ─▶ only to the gateway ─▶ endpoint ─▶ metalink (metalink.p4)
 *                ├─ multipoint ──▶ shared_mli ─▶ LAN (lan.p4)
 *                └─ miss: legacy ──────────────▶ LAN
 *
 * "Network Access in a Diversified Internet", 3.2: the provisioned VLAN leads to the gateway and nowhere else; the multipoint
 * VLAN is a LAN for metanets, best effort.
 */

#ifndef DMUX_ACCESS_P4
#define DMUX_ACCESS_P4

control Access(inout headers_t hdr, inout metadata_t meta) {
    MetalinkIn() metalink_in;
    Lan() lan;

    @name(".set_access_link")
    @id(ACTION_SET_ACCESS_LINK)
    action set_access_link(bit<16> link, bit<16> flood_group, bit<16> gateway, @format(IPV4_ADDRESS) bit<32> gateway_addr) {
        meta.link = link;
        meta.flood_group = flood_group;
        meta.gateway = gateway;
        meta.gateway_addr = gateway_addr;
    }

    @name(".access_port")
    @id(TABLE_ACCESS_PORT)
    table access_port {
        key = { meta.ingress_port : exact @name("port"); }
        actions = { set_access_link; @defaultonly drop(meta); }
        const default_action = drop(meta, DropReason.NO_PORT_ROLE);
        size = ACCESS_PORT_SIZE;
    }

    @name(".provisioned")
    @id(ACTION_PROVISIONED)
    action provisioned() {
        meta.vlan_use = VLAN_PROVISIONED;
    }

    @name(".multipoint")
    @id(ACTION_MULTIPOINT)
    action multipoint() {
        meta.vlan_use = VLAN_MULTIPOINT;
    }

    /* Untagged frames have VID 0. */
    @name(".access_vlan")
    @id(TABLE_ACCESS_VLAN)
    table access_vlan {
        key = {
            meta.link : exact @name("link");
            meta.vid : exact @name("vid");
        }
        actions = { provisioned; multipoint; @defaultonly NoAction; }
        const default_action = NoAction();
        size = ACCESS_VLAN_SIZE;
    }

    @name(".shared")
    @id(ACTION_SHARED)
    action shared() { }

    /* The MLIs of metanets on the multipoint VLAN ("shared mode": one for all endpoints). */
    @name(".shared_mli")
    @id(TABLE_SHARED_MLI)
    table shared_mli {
        key = {
            meta.link : exact @name("link");
            hdr.substrate.mli : exact @name("mli");
        }
        actions = { shared; @defaultonly drop(meta); }
        const default_action = drop(meta, DropReason.UNKNOWN_METALINK);
        size = SHARED_MLI_SIZE;
    }

    @name(".discovery_meter")
    @id(METER_DISCOVERY)
    DIRECT_FRAME_METER(discovery_meter);

    @name(".discover")
    @id(ACTION_DISCOVER)
    action discover() {
        discovery_meter.read(meta.color);
    }

    /* What anybody may send, each port has a share of its own of: a flood at one port is at nobody's expense elsewhere. */
    @name(".discovery_port")
    @id(TABLE_DISCOVERY_PORT)
    table discovery_port {
        key = { meta.ingress_port : exact @name("port"); }
        actions = { discover; @defaultonly drop(meta); }
        const default_action = drop(meta, DropReason.NO_PORT_ROLE);
        meters = discovery_meter;
        size = ACCESS_PORT_SIZE;
    }

    apply {
        access_port.apply();
        if (meta.drop_reason == DropReason.NONE) {
            access_vlan.apply();
            if (meta.parse_failed && (meta.ether_type == ETHER_TYPE_VLAN || meta.ether_type == ETHER_TYPE_SUBSTRATE)) {
                meta.drop_reason = DropReason.PARSE_ERROR;
            } else if (hdr.substrate.isValid() && hdr.substrate.version != SUBSTRATE_VERSION) {
                meta.drop_reason = DropReason.BAD_SUBSTRATE;
            } else if (hdr.substrate.isValid() && hdr.substrate.mli == MLI_DISCOVERY) {
                if (meta.mac_difference == 0 || hdr.ethernet.dst == MAC_BROADCAST) {
                    discovery_port.apply();
                    if (meta.drop_reason == DropReason.NONE) {
                        if (meta.color == COLOR_RED) {
                            meta.drop_reason = DropReason.PUNT_RATE;
                        } else {
                            meta.punt_reason = PuntReason.DISCOVERY;
                        }
                    }
                } else {
                    meta.drop_reason = DropReason.NOT_FOR_US;
                }
            } else if (meta.vlan_use == VLAN_PROVISIONED) {
                if (meta.mac_difference != 0) {
                    meta.drop_reason = DropReason.NOT_FOR_US;
                } else if (!hdr.substrate.isValid()) {
                    meta.drop_reason = DropReason.BAD_SUBSTRATE;
                } else {
                    metalink_in.apply(hdr, meta);
                }
            } else {
                if (meta.vlan_use == VLAN_MULTIPOINT) {
                    if (hdr.substrate.isValid()) {
                        shared_mli.apply();
                    } else {
                        meta.drop_reason = DropReason.BAD_SUBSTRATE;
                    }
                } else if (hdr.substrate.isValid()) {
                    meta.drop_reason = DropReason.WRONG_VLAN;
                }
                if (meta.drop_reason == DropReason.NONE) {
                    lan.apply(hdr, meta);
                }
            }
        }
    }
}

#endif
