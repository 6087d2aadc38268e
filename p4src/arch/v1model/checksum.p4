/* v1model: checksums.
 *
 * IPv4 headers are verified on arrival and recomputed when a packet is routed. The UDP checksum of a rewritten datagram is
 * updated from what changed (RFC 1624, equation 3), so the payload is not read and damage to it stays visible:
 *
 *   HC' = ~(~HC + sum of ~old words + sum of new words)
 *
 * A checksum of 0 means "none" (RFC 768) and stays 0; a computed 0 is sent as 0xFFFF.
 */

#ifndef DMUX_V1MODEL_CHECKSUM_P4
#define DMUX_V1MODEL_CHECKSUM_P4

#define IPV4_CHECKSUM_WORDS(H) { H.version, H.ihl, H.dscp_ecn, H.total_len, H.identification, H.reserved, H.dont_fragment, \
    H.more_fragments, H.fragment_offset, H.ttl, H.protocol, H.src, H.dst }

control GatewayVerifyChecksum(inout headers_t hdr, inout metadata_t meta) {
    apply {
        /* With options the sum would cover bytes that the parser left alone; such packets drop anyway. */
        verify_checksum(hdr.ipv4.isValid() && hdr.ipv4.ihl == 5, IPV4_CHECKSUM_WORDS(hdr.ipv4), hdr.ipv4.checksum,
                        HashAlgorithm.csum16);
    }
}

/* Before a datagram is rewritten. */
control SaveOldWords(in headers_t hdr, inout metadata_t meta) {
    apply {
        meta.udp_changed = hdr.udp.checksum != 0;
        meta.delta.checksum = ~hdr.udp.checksum;
        meta.delta.src = ~hdr.ipv4.src;
        meta.delta.dst = ~hdr.ipv4.dst;
        meta.delta.src_port = ~hdr.udp.src_port;
        meta.delta.dst_port = ~hdr.udp.dst_port;
        meta.delta.len = ~hdr.udp.len;
        meta.delta.shim = ~(hdr.shim.version ++ hdr.shim.kind ++ hdr.shim.flags);
    }
}

/* The last thing that happens to a packet. The updates run in this order, each with its condition at that moment. */
control GatewayComputeChecksum(inout headers_t hdr, inout metadata_t meta) {
    apply {
        update_checksum(meta.ipv4_changed, IPV4_CHECKSUM_WORDS(hdr.ipv4), hdr.ipv4.checksum, HashAlgorithm.csum16);

        /* The length counts twice: in the pseudo header and in the UDP header. */
        update_checksum(meta.udp_changed,
            { meta.delta.checksum, meta.delta.src, meta.delta.dst, meta.delta.src_port, meta.delta.dst_port,
              meta.delta.len, meta.delta.len, meta.delta.shim, meta.delta.origin_client, meta.delta.origin_rest,
              hdr.ipv4.src, hdr.ipv4.dst, hdr.udp.src_port, hdr.udp.dst_port, hdr.udp.len, hdr.udp.len,
              hdr.shim.version, hdr.shim.kind, hdr.shim.flags },
            hdr.udp.checksum, HashAlgorithm.csum16);

        /* In full, over the pseudo header and the 44 bytes of a probe datagram. */
        update_checksum(meta.stamp != Stamp.NONE,
            { hdr.ipv4.src, hdr.ipv4.dst, 8w0, hdr.ipv4.protocol, hdr.udp.len, hdr.udp.src_port, hdr.udp.dst_port,
              hdr.udp.len, hdr.shim.version, hdr.shim.kind, hdr.shim.flags, hdr.shim.protocol, hdr.shim.provider,
              hdr.probe.type, hdr.probe.reserved, hdr.probe.origin_gateway, hdr.probe.sequence, hdr.probe.t_out,
              hdr.probe.t_reflect_in, hdr.probe.t_reflect_out, hdr.probe.reserved2 },
            hdr.udp.checksum, HashAlgorithm.csum16);

        /* The checksum of the word 0 is 0xFFFF: what a computed 0 is sent as. */
        update_checksum(hdr.udp.checksum == 0 && (meta.udp_changed || meta.stamp != Stamp.NONE), { 16w0 },
            hdr.udp.checksum, HashAlgorithm.csum16);
    }
}

#endif
