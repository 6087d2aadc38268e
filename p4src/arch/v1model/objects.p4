/* v1model: counters, meters and hashes, behind controls of one shape for every architecture. */

#ifndef DMUX_V1MODEL_OBJECTS_P4
#define DMUX_V1MODEL_OBJECTS_P4

#define DIRECT_COUNTER(NAME) direct_counter(CounterType.packets_and_bytes) NAME

/* One packet, one cell, one call: a second call for the same packet would not fit Tofino. */
control CountDrop(in metadata_t meta) {
    @name(".drops")
    @id(COUNTER_DROPS)
    counter<DropReason>(DROP_REASONS, CounterType.packets_and_bytes) drops;

    apply {
        drops.count(meta.drop_reason);
    }
}

/* A cell that nobody has configured is green. */
control PuntMeter(inout metadata_t meta) {
    @name(".punt_meter")
    @id(METER_PUNT)
    meter<PuntReason>(PUNT_REASONS, MeterType.packets) punt_meter;

    apply {
        punt_meter.execute_meter(meta.punt_reason, meta.punt_color);
    }
}

/* The low 16 bits of the CRC-32 of the client's address: a client keeps its bucket whatever its ports are. */
control ClientBucket(in headers_t hdr, inout metadata_t meta) {
    apply {
        hash(meta.bucket, HashAlgorithm.crc32, 16w0, { hdr.ipv4.src }, 32w65536);
    }
}

/* The low 16 bits of the CRC-32 of the five-tuple as the packet came in (ports 0 for fragments and for all but UDP). */
control FlowHash(in headers_t hdr, inout metadata_t meta) {
    apply {
        hash(meta.flow_hash, HashAlgorithm.crc32, 16w0,
             { hdr.ipv4.src, hdr.ipv4.dst, hdr.ipv4.protocol, meta.src_port, meta.dst_port }, 32w65536);
    }
}

#endif
