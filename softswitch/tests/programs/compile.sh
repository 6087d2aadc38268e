#!/bin/sh
# Compiles the programs beside this script (or those named) into JSON and P4Info, and writes programs.lock. The results are
# committed, so that only who edits a program needs p4c. Needs p4c-bm2-ss on PATH (or in $P4C) and Python 3.
set -eu
cd "$(dirname "$0")"
p4c=${P4C:-p4c-bm2-ss}
[ $# -gt 0 ] || set -- *.p4 undefined/*.p4
for program in "$@"; do
    name=${program%.p4}
    "$p4c" --arch v1model --std p4-16 "$program" -o "$name.json" \
        --p4runtime-files "$name.p4info.txtpb" --Wdisable
    # Where a thing stands in which file depends on the machine and triples the size.
    python3 - "$name.json" <<'PYTHON'
import json
import sys


def without_places(node):
    if isinstance(node, dict):
        return {key: without_places(value) for key, value in node.items() if key != "source_info"}
    if isinstance(node, list):
        return [without_places(value) for value in node]
    return node


with open(sys.argv[1]) as source:
    program = without_places(json.load(source))
with open(sys.argv[1], "w") as target:
    json.dump(program, target, separators=(",", ":"))
    target.write("\n")
PYTHON
done
{
    echo '# What the JSON and P4Info here were compiled from. Written by compile.sh, compared by conformance/tests/lock.rs.'
    "$p4c" --version 2>&1 | awk '/[Vv]ersion/ { print "p4c " $2; exit }'
    sha256sum -- *.p4 include/*.p4 *.json *.p4info.txtpb undefined/*.p4 undefined/*.json undefined/*.p4info.txtpb
} > programs.lock
