/* LAN: the gateway's access ports as the bridge of their LAN. Frames pass untouched.
 *
 *   lan_source ─ miss ─▶ the controller is told (digest), and adds the station
 *   lan_forward ─┬─ to_port
 *                └─ miss ─▶ flood: all ports of the access link but the one that it came from
 *
 * Stations are known by (access link, VID, address): every VLAN is a LAN of its own.
 */

#ifndef DMUX_LAN_P4
#define DMUX_LAN_P4

control Lan(in headers_t hdr, inout metadata_t meta) {
    @name(".known_source")
    @id(ACTION_KNOWN_SOURCE)
    action known_source() { }

    @name(".new_source")
    @id(ACTION_NEW_SOURCE)
    action new_source() {
        meta.new_source = true;
    }

    /* An entry that was not hit for its idle timeout is the controller's to remove. */
    @name(".lan_source")
    @id(TABLE_LAN_SOURCE)
    table lan_source {
        key = {
            meta.ingress_port : exact @name("port");
            meta.vid : exact @name("vid");
            hdr.ethernet.src : exact @name("src") @format(MAC_ADDRESS);
        }
        actions = { known_source; @defaultonly new_source; }
        const default_action = new_source();
        support_timeout = true;
        size = LAN_SIZE;
    }

    @name(".to_port")
    @id(ACTION_TO_PORT)
    action to_port(bit<9> port) {
        meta.egress_port = port;
        meta.port_difference = meta.ingress_port ^ port;
    }

    @name(".flood")
    @id(ACTION_FLOOD)
    action flood() {
        meta.flood = true;
        meta.port_difference = 1;
    }

    @name(".lan_forward")
    @id(TABLE_LAN_FORWARD)
    table lan_forward {
        key = {
            meta.link : exact @name("link");
            meta.vid : exact @name("vid");
            hdr.ethernet.dst : exact @name("dst") @format(MAC_ADDRESS);
        }
        actions = { to_port; @defaultonly flood; }
        const default_action = flood();
        size = LAN_SIZE;
    }

    apply {
        meta.path = Path.LAN;
        if (meta.mac_difference == 0) {
            /* Neither the LAN's nor a protocol of ours. */
            meta.drop_reason = DropReason.UNSUPPORTED_ETHERTYPE;
        } else {
            /* A group address is nobody's source. */
            if (hdr.ethernet.src[40:40] == 0) {
                lan_source.apply();
            }
            lan_forward.apply();
            if (meta.port_difference == 0) {
                meta.drop_reason = DropReason.LAN_HAIRPIN;
            }
        }
    }
}

#endif
