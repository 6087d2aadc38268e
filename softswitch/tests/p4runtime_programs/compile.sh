#!/bin/sh
# Compiles the programs beside this script with p4c. The results are committed, so that only who edits them needs p4c.
set -eu
cd "$(dirname "$0")"
for program in *.p4; do
    name=${program%.p4}
    p4c-bm2-ss --arch v1model "$program" -o "$name.json" --p4runtime-files "$name.p4info.txtpb"
done
