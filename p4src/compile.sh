#!/bin/sh
# Compiles p4src/gateway.p4 for v1model into bmv2-configs/ (JSON, P4Info, lock). Needs p4c 1.2.5 or later and Python 3.
# The outputs depend on the sources and the compiler only: no path of this machine is left in them.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
if ! command -v p4c >/dev/null; then
    echo "compile.sh: p4c is not on PATH; it is needed only to change p4src/ (bmv2-configs/ is committed)." >&2
    echo "compile.sh: install p4c 1.2.5 or later (package p4lang-p4c, or build p4lang/p4c from source)." >&2
    exit 1
fi
version=$(p4c --version | awk '{ print $2; exit }')
oldest=$(printf '%s\n1.2.5\n' "$version" | sort -V | head -n 1)
if [ "$oldest" != 1.2.5 ]; then
    echo "compile.sh: p4c $version is on PATH; 1.2.5 or later is needed." >&2
    exit 1
fi

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cd "$root/p4src"
p4c --target bmv2 --arch v1model --std p4-16 -DV1MODEL_VERSION=20200408 \
    --p4runtime-files "$out/gateway.p4info.txtpb" -o "$out" gateway.p4

python3 - "$out/gateway.json" "$root/bmv2-configs/gateway.json" <<'PYTHON'
import json
import posixpath
import sys


def relative(node):
    """Source files by their place under p4src/, the compiler's own by their name."""
    if isinstance(node, dict):
        name = node.get("filename")
        if isinstance(name, str) and "line" in node:
            node["filename"] = posixpath.basename(name) if name.startswith("/") else posixpath.normpath(name)
        for value in node.values():
            relative(value)
    elif isinstance(node, list):
        for value in node:
            relative(value)


with open(sys.argv[1]) as source:
    program = json.load(source)
relative(program)
program["program"] = "gateway.p4"
with open(sys.argv[2], "w") as target:
    json.dump(program, target, indent=1)
    target.write("\n")
PYTHON
cp "$out/gateway.p4info.txtpb" "$root/bmv2-configs/gateway.p4info.txtpb"
python3 "$root/p4src/check_lock.py" --write "$version"
