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

/* Whether the client is one of the draining router's: seen there not more than `idle` ticks ago, or anybody while it
 * learns. Such a client is seen now. A tick is 2^20 µs, and a cell holds the tick of the last packet plus one; 0 is never.
 * One cell, read and written once. */
control ClientPresence(in headers_t hdr, inout metadata_t meta) {
    @name(".client_seen")
    @id(REGISTER_CLIENT_SEEN)
    register<bit<32>, bit<32>>(CLIENT_SEEN_CELLS) client_seen;

    bit<32> cell;
    bit<32> now;
    bit<32> seen;

    apply {
        hash(cell, HashAlgorithm.crc32, 32w0, { hdr.ipv4.src, meta.leaving }, 32w262144);
        now = 4w0 ++ meta.t_in[47:20];
        now = now + 1;
        client_seen.read(seen, cell);
        meta.idle_left = meta.idle - (now - seen);
        meta.present = meta.learning == LEARNING || (seen != 0 && meta.idle_left[31:31] == 0);
        if (meta.present) {
            client_seen.write(cell, now);
        }
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
