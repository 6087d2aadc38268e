/* v1model: counters, meters and hashes, behind controls of one shape for every architecture. */

#ifndef DMUX_V1MODEL_OBJECTS_P4
#define DMUX_V1MODEL_OBJECTS_P4

#define DIRECT_COUNTER(NAME) direct_counter(CounterType.packets_and_bytes) NAME
/* Of bytes of the frame as it came in. */
#define DIRECT_METER(NAME) direct_meter<bit<2>>(MeterType.bytes) NAME
#define DIRECT_FRAME_METER(NAME) direct_meter<bit<2>>(MeterType.packets) NAME

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

/* What was out of profile, from endpoints and to them, by the metalink's cell. */
control CountRxRed(in metadata_t meta) {
    @name(".metalink_rx_red")
    @id(COUNTER_METALINK_RX_RED)
    counter<bit<32>>(METALINK_RX_CELLS, CounterType.packets_and_bytes) metalink_rx_red;

    apply {
        metalink_rx_red.count(meta.cell);
    }
}

control CountTxRed(in metadata_t meta) {
    @name(".metalink_tx_red")
    @id(COUNTER_METALINK_TX_RED)
    counter<bit<32>>(METALINK_CELLS, CounterType.packets_and_bytes) metalink_tx_red;

    apply {
        metalink_tx_red.count(meta.cell);
    }
}

struct violation_t {
    bit<32> cell;
    bit<24> mli;
    bit<9> port;
}

/* Tells the controller that an endpoint sends more than it may: once a tick of 2^20 µs a metalink, whatever it sends. */
control ReportViolation(in headers_t hdr, in metadata_t meta) {
    @name(".last_report")
    @id(REGISTER_LAST_REPORT)
    register<bit<32>, bit<32>>(METALINK_RX_CELLS) last_report;

    bit<32> now;
    bit<32> last;

    apply {
        now = 4w0 ++ meta.t_in[47:20];
        now = now + 1;
        last_report.read(last, meta.cell);
        if (last - now != 0) {
            last_report.write(meta.cell, now);
            digest<violation_t>(1, { meta.cell, hdr.substrate.mli, meta.ingress_port });
        }
    }
}

struct lan_source_t {
    bit<16> link;
    bit<12> vid;
    bit<48> mac;
    bit<9> port;
}

/* Tells the controller where a station of an access LAN is (again, until it has an entry of lan_source). */
control ReportSource(in headers_t hdr, in metadata_t meta) {
    apply {
        digest<lan_source_t>(1, { meta.link, meta.vid, hdr.ethernet.src, meta.ingress_port });
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
