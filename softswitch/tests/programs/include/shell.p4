// What every program here ends with: the blocks that it did not define itself, empty, and the switch. A program defines the
// parser `Parse`, the control `IngressPipe` and the deparser `Emit`, and says with OWN_… which of the others it has.

#ifndef OWN_VERIFY
control Verify(inout headers_t hdr, inout metadata_t meta) { apply { } }
#endif

#ifndef OWN_EGRESS
control EgressPipe(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) { apply { } }
#endif

#ifndef OWN_COMPUTE
control Compute(inout headers_t hdr, inout metadata_t meta) { apply { } }
#endif

V1Switch(Parse(), Verify(), IngressPipe(), EgressPipe(), Compute(), Emit()) main;
