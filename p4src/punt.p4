/* Punt: which frames are for the controller instead of the data plane.
 *
 *   punt (ternary) ─▶ meta.punt_reason
 *
 * Other stages punt too (TTL, size, no route): they drop the packet and set a punt reason beside the drop reason. What
 * is done with the reasons is in verdict.p4. Punted frames are as they came in: nothing is rewritten before the verdict.
 */

#ifndef DMUX_PUNT_P4
#define DMUX_PUNT_P4

control Punt(inout metadata_t meta) {
    @name(".punt")
    @id(ACTION_PUNT)
    action punt(PuntReason reason) {
        meta.punt_reason = reason;
    }

    /* Fields that a frame does not have are zero, save shim_kind, which is 0xFF. */
    @name(".punt")
    @id(TABLE_PUNT)
    table punt_rules {
        key = {
            meta.ether_type : ternary @name("ether_type");
            meta.dst : ternary @name("dst") @format(IPV4_ADDRESS);
            meta.protocol : ternary @name("protocol");
            meta.dst_port : ternary @name("dst_port");
            meta.shim_kind : ternary @name("shim_kind");
            meta.probe_type : ternary @name("probe_type");
        }
        actions = { punt; @defaultonly NoAction; }
        const default_action = NoAction();
        size = PUNT_SIZE;
    }

    apply {
        punt_rules.apply();
    }
}

#endif
