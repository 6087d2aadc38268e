/* Probe: the data plane's round-trip measurement (DESIGN 3.3).
 *
 *   origin switch:     controller's request ─▶ routed ─▶ egress stamps t_out
 *   reflecting switch: probe_peer ─▶ swapped, t_reflect_in ─▶ routed ─▶ egress stamps t_reflect_out
 *   origin switch:     reply ─▶ punted with t_in (punt.p4)
 *
 * The UDP checksum of a stamped probe is computed in full: it has a fixed length, and stamps change most of it.
 */

#ifndef DMUX_PROBE_P4
#define DMUX_PROBE_P4

control Probe(in headers_t hdr, inout metadata_t meta) {
    @name(".known_peer")
    @id(ACTION_KNOWN_PEER)
    action known_peer() {
        meta.dst = hdr.ipv4.src;
    }

    @name(".probe_peer")
    @id(TABLE_PROBE_PEER)
    table probe_peer {
        key = { hdr.ipv4.src : exact @name("src") @format(IPV4_ADDRESS); }
        actions = { known_peer; @defaultonly drop(meta); }
        const default_action = drop(meta, DropReason.UNKNOWN_PROBER);
        size = PROBE_PEER_SIZE;
    }

    apply {
        probe_peer.apply();
    }
}

control ReflectRewrite(inout headers_t hdr, inout metadata_t meta) {
    apply {
        meta.new_dst_port = hdr.udp.src_port;
        hdr.udp.src_port = hdr.udp.dst_port;
        hdr.udp.dst_port = meta.new_dst_port;
        hdr.ipv4.src = hdr.ipv4.dst;
        hdr.ipv4.dst = meta.dst;
        hdr.ipv4.ttl = ORIGINATED_TTL;
        hdr.shim.flags = 0;
        hdr.probe.type = PROBE_REPLY;
        hdr.probe.reserved = 0;
        hdr.probe.t_reflect_in = meta.t_in;
        hdr.probe.reserved2 = 0;
        meta.stamp = Stamp.T_REFLECT_OUT;
    }
}

/* Egress. */
control StampProbe(inout headers_t hdr, in metadata_t meta, in bit<48> now) {
    apply {
        if (meta.stamp == Stamp.T_OUT) {
            hdr.probe.t_out = now;
        } else if (meta.stamp == Stamp.T_REFLECT_OUT) {
            hdr.probe.t_reflect_out = now;
        }
    }
}

#endif
