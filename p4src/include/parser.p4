/* Parser and deparser.
 *
 *   start ─▶ packet_out (from the CPU port) ─▶ accept          submit_to_ingress = 0: the frame is not looked at
 *     │            │
 *     └────────────┴─▶ ethernet ─▶ ipv4 ─▶ udp ─▶ shim ─▶ origin   kind 2
 *                         │                            └▶ probe    kind 5
 *                         ├─▶ vlan
 *                         └──┴─▶ substrate ─▶ shim ─▶ origin       flag S, kind 2
 *
 * The parser only goes on where the lengths that it has seen promise enough bytes, so that a short or strange datagram in
 * transit is routed like any other; whether a header *must* be there is decided by the stage that needs it. Running off
 * the end of the frame is an error in every case.
 * IPv4 options and fragments stop the parser after the fixed IPv4 header: what follows is not where it seems to be.
 */

#ifndef DMUX_PARSER_P4
#define DMUX_PARSER_P4

parser GatewayParser(packet_in packet, inout headers_t hdr, inout metadata_t meta, in bit<9> ingress_port) {
    state start {
        meta.shim_kind = SHIM_KIND_NONE;
        transition select(ingress_port) {
            CPU_PORT: parse_packet_out;
            default: parse_ethernet;
        }
    }

    state parse_packet_out {
        packet.extract(hdr.packet_out);
        transition select(hdr.packet_out.submit_to_ingress) {
            0: accept;
            default: parse_ethernet;
        }
    }

    state parse_ethernet {
        packet.extract(hdr.ethernet);
        meta.ether_type = hdr.ethernet.ether_type;
        transition select(hdr.ethernet.ether_type) {
            ETHER_TYPE_IPV4: parse_ipv4;
            ETHER_TYPE_VLAN: parse_vlan;
            ETHER_TYPE_SUBSTRATE: parse_substrate;
            default: accept;
        }
    }

    state parse_vlan {
        packet.extract(hdr.vlan);
        meta.vid = hdr.vlan.vid;
        transition select(hdr.vlan.ether_type) {
            ETHER_TYPE_SUBSTRATE: parse_substrate;
            default: accept;
        }
    }

    state parse_substrate {
        packet.extract(hdr.substrate);
        transition select(hdr.substrate.version, hdr.substrate.flags) {
            (SUBSTRATE_VERSION, SUBSTRATE_FLAG_SHIM &&& SUBSTRATE_FLAG_SHIM): parse_substrate_shim;
            default: accept;
        }
    }

    state parse_substrate_shim {
        packet.extract(hdr.shim);
        transition select(hdr.shim.version, hdr.shim.kind) {
            (SHIM_VERSION, SHIM_KIND_RETURN): parse_origin;
            default: accept;
        }
    }

    state parse_ipv4 {
        packet.extract(hdr.ipv4);
        meta.protocol = hdr.ipv4.protocol;
        meta.dst = hdr.ipv4.dst;
        transition select(hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.more_fragments, hdr.ipv4.fragment_offset, hdr.ipv4.protocol) {
            (4, 5, 0, 0, IP_PROTOCOL_UDP): parse_udp;
            default: accept;
        }
    }

    state parse_udp {
        packet.extract(hdr.udp);
        meta.src_port = hdr.udp.src_port;
        meta.dst_port = hdr.udp.dst_port;
        transition select(hdr.udp.dst_port, hdr.udp.len) {
            /* Below 16 bytes there is no room for a shim. */
            (DMUX_PORT, 0 &&& 0xFFF0): accept;
            (DMUX_PORT, _): parse_shim;
            default: accept;
        }
    }

    state parse_shim {
        packet.extract(hdr.shim);
        transition select(hdr.shim.version) {
            SHIM_VERSION: parse_shim_kind;
            default: accept;
        }
    }

    state parse_shim_kind {
        meta.shim_kind = (bit<8>)hdr.shim.kind;
        transition select(hdr.shim.kind, hdr.udp.len) {
            /* Below 24 bytes (16 to 23 here) there is no room for an origin header. */
            (SHIM_KIND_RETURN, 0x0010 &&& 0xFFF8): accept;
            (SHIM_KIND_RETURN, _): parse_origin;
            (SHIM_KIND_PROBE, PROBE_UDP_BYTES): parse_probe;
            default: accept;
        }
    }

    state parse_origin {
        packet.extract(hdr.origin);
        transition accept;
    }

    state parse_probe {
        packet.extract(hdr.probe);
        meta.probe_type = hdr.probe.type;
        transition accept;
    }
}

control GatewayDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.packet_in);
        packet.emit(hdr.ethernet);
        packet.emit(hdr.vlan);
        packet.emit(hdr.substrate);
        packet.emit(hdr.ipv4);
        packet.emit(hdr.udp);
        packet.emit(hdr.shim);
        packet.emit(hdr.origin);
        packet.emit(hdr.probe);
    }
}

#endif
