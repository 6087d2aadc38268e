#!/usr/bin/env python3
"""Fails when bmv2-configs/ was not compiled from the P4 sources that lie beside it. Needs no p4c.

    check_lock.py                 compare; exit status 1 and a sentence for each difference
    check_lock.py --write VERSION write the lock (compile.sh does, with the version of the p4c that it ran)
"""

import argparse
import hashlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "bmv2-configs" / "gateway.lock"
OUTPUTS = ["bmv2-configs/gateway.json", "bmv2-configs/gateway.p4info.txtpb"]
HEADER = """\
# What bmv2-configs/ was compiled from. Written by p4src/compile.sh, compared by p4src/check_lock.py.
# `p4c VERSION`, then `SHA-256  path` of every p4src/**/*.p4 in the order of their paths, then of the outputs.
"""


def sources() -> list[str]:
    return sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "p4src").rglob("*.p4"))


def digest(path: str) -> str:
    return hashlib.sha256((ROOT / path).read_bytes()).hexdigest()


def write(version: str) -> None:
    lines = [f"p4c {version}"] + [f"{digest(path)}  {path}" for path in sources() + OUTPUTS]
    LOCK.write_text(HEADER + "\n".join(lines) + "\n")


def differences() -> list[str]:
    try:
        lines = [line for line in LOCK.read_text().splitlines() if line and not line.startswith("#")]
    except FileNotFoundError:
        return [f"{LOCK.relative_to(ROOT)} is missing"]
    if not lines or not lines[0].startswith("p4c "):
        return [f"{LOCK.relative_to(ROOT)} does not begin with the version of p4c"]
    locked = {}
    for line in lines[1:]:
        sha, separator, path = line.partition("  ")
        if not separator:
            return [f"{LOCK.relative_to(ROOT)} has a line that is not `SHA-256  path`: {line}"]
        locked[path] = sha
    found = []
    for path in sources() + OUTPUTS:
        if not (ROOT / path).is_file():
            found.append(f"{path} is missing")
        elif path not in locked:
            found.append(f"{path} is new since the last compilation")
        elif locked.pop(path) != digest(path):
            found.append(f"{path} has changed since the last compilation")
    found += [f"{path} was there at the last compilation and is not now" for path in locked if not (ROOT / path).exists()]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", metavar="VERSION", help="write the lock instead of comparing it")
    arguments = parser.parse_args()
    if arguments.write:
        write(arguments.write)
        return 0
    found = differences()
    for difference in found:
        print(f"check_lock: {difference}", file=sys.stderr)
    if found:
        print("check_lock: run `make p4` (it needs p4c on PATH) and commit bmv2-configs/", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
