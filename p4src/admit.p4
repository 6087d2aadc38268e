/* Admit: which frames the other stages get to see.
 *
 *   port_role ─▶ parsed? for us? ─▶ IPv4 header sane? ─▶ source_guard (not for the controller)
 *
 * Leaves meta.path as access (an access LAN's: tagged, of the substrate, or for another station), transit (other frames from ports, or as if), originate or packet_out (from the controller), or a drop reason.
 */

#ifndef DMUX_ADMIT_P4
#define DMUX_ADMIT_P4

/* Version, lengths, options, checksum: in this order, so that each reason names the first thing that is wrong. */
control CheckIpv4(in headers_t hdr, inout metadata_t meta) {
    apply {
        /* Negative when the packet claims to be longer than the frame. Shorter is fine: Ethernet pads. */
        meta.room = meta.frame_len - ETHERNET_BYTES;
        meta.room = meta.room - (bit<32>)hdr.ipv4.total_len;
        if (hdr.ipv4.version != 4) {
            meta.drop_reason = DropReason.BAD_IP_VERSION;
        } else if (hdr.ipv4.ihl < 5 || hdr.ipv4.total_len < IPV4_BYTES || meta.room[31:31] == 1) {
            meta.drop_reason = DropReason.BAD_IP_LENGTH;
        } else if (hdr.ipv4.ihl != 5) {
            meta.drop_reason = DropReason.IP_OPTIONS;
        } else if (meta.checksum_failed) {
            meta.drop_reason = DropReason.BAD_IP_CHECKSUM;
        }
    }
}

control Admit(inout headers_t hdr, inout metadata_t meta) {
    CheckIpv4() check_ipv4;

    /* The XOR is zero for a frame that is addressed to the port. */
    @name(".set_role")
    @id(ACTION_SET_ROLE)
    action set_role(bit<8> role, @format(MAC_ADDRESS) bit<48> mac) {
        meta.role = role;
        meta.mac_difference = hdr.ethernet.dst ^ mac;
    }

    @name(".port_role")
    @id(TABLE_PORT_ROLE)
    table port_role {
        key = { meta.ingress_port : exact @name("port"); }
        actions = { set_role; @defaultonly drop(meta); }
        const default_action = drop(meta, DropReason.NO_PORT_ROLE);
        size = PORT_ROLE_SIZE;
    }

    @name(".allow")
    @id(ACTION_ALLOW)
    action allow() { }

    @name(".deny")
    @id(ACTION_DENY)
    action deny() {
        meta.drop_reason = DropReason.SPOOFED_SOURCE;
    }

    @name(".source_guard")
    @id(TABLE_SOURCE_GUARD)
    table source_guard {
        key = { hdr.ipv4.src : lpm @name("src") @format(IPV4_ADDRESS); }
        actions = { allow; deny; }
        const default_action = allow();
        size = SOURCE_GUARD_SIZE;
    }

    apply {
        port_role.apply();
        /* The CPU port must have the CPU role and no other port may: packet_out decides where a frame goes. A miss is no role. */
        if (meta.ingress_port == CPU_PORT) {
            if (meta.role != ROLE_CPU) {
                meta.drop_reason = DropReason.NO_PORT_ROLE;
            } else if (meta.parse_failed) {
                meta.drop_reason = DropReason.PARSE_ERROR;
            } else if (hdr.packet_out.submit_to_ingress == SUBMIT_NONE) {
                meta.path = Path.PACKET_OUT;
                /* Neither a port that cannot be, nor back to the controller without a packet_in header. */
                if (hdr.packet_out.egress_port >= (bit<16>)CPU_PORT) {
                    meta.drop_reason = DropReason.NO_PORT_ROLE;
                }
            } else if (hdr.packet_out.submit_to_ingress == SUBMIT_AS_RECEIVED) {
                meta.path = Path.TRANSIT;
            } else {
                meta.path = Path.ORIGINATE;
            }
        } else if (meta.role != ROLE_WAN && meta.role != ROLE_ACCESS) {
            meta.drop_reason = DropReason.NO_PORT_ROLE;
        } else if (meta.role == ROLE_ACCESS &&
                   (meta.mac_difference != 0 || meta.ether_type == ETHER_TYPE_VLAN || meta.ether_type == ETHER_TYPE_SUBSTRATE)) {
            meta.path = Path.ACCESS;
        } else if (meta.parse_failed) {
            meta.drop_reason = DropReason.PARSE_ERROR;
        } else if (meta.mac_difference != 0) {
            /* Only ARP may be broadcast: nothing else that a gateway serves is. */
            if (meta.ether_type != ETHER_TYPE_ARP || hdr.ethernet.dst != MAC_BROADCAST) {
                meta.drop_reason = DropReason.NOT_FOR_US;
            }
        }
        if (meta.drop_reason == DropReason.NONE && hdr.ipv4.isValid() && meta.path != Path.ACCESS) {
            check_ipv4.apply(hdr, meta);
            if (meta.drop_reason == DropReason.NONE && meta.role != ROLE_CPU) {
                source_guard.apply();
                /* Addresses that stand for metalinks (metalink.p4); no host has one (RFC 1122, 3.2.1.3). */
                if (hdr.ipv4.src[31:24] == 0) {
                    meta.drop_reason = DropReason.SPOOFED_SOURCE;
                }
            }
        }
    }
}

#endif
