#!/usr/bin/env python3
"""`make test`: every check that a plain machine can run, in the order of what fails soonest.

Sets up what it needs (a Python venv in .venv, rebuilt when ptf-tests/requirements.txt changes), runs each step to
its end even when an earlier one failed, and closes with the counts of all tests. Exit status 0 only if all passed.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
REQUIREMENTS = ROOT / "ptf-tests" / "requirements.txt"
# The published stubs of P4Runtime, which our messages are compared with. Not imported: they do not work with today's
# protobuf, and are not a dependency.
PUBLISHED = VENV / "published"
PUBLISHED_PACKAGE = "p4runtime==1.6.0"
# What cargo test and our PTF runner print for each suite.
CARGO_RESULT = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored")
PLAIN_RESULT = re.compile(r"^(?:\w+: )?(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$")


class Counts:
    """Tests passed, failed and skipped so far, and the steps that failed as a whole."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.broken = []

    def read(self, line):
        """Adds what a line of a test runner counts. Returns whether it counted anything."""
        found = CARGO_RESULT.match(line) or PLAIN_RESULT.match(line)
        if not found:
            return False
        passed, failed, skipped = (int(n or 0) for n in found.groups())
        self.passed += passed
        self.failed += failed
        self.skipped += skipped
        return True


def python():
    """The venv's interpreter, after making sure that it holds what requirements.txt pins."""
    stamp = VENV / "requirements.sha256"
    want = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    interpreter = VENV / "bin" / "python"
    if not (interpreter.exists() and stamp.exists() and stamp.read_text() == want):
        print("setting up .venv", flush=True)
        venv.create(VENV, with_pip=True, clear=True)
        pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True)
        subprocess.run([*pip, "--no-deps", "--target", str(PUBLISHED), PUBLISHED_PACKAGE], check=True)
        stamp.write_text(want)
    return str(interpreter)


def step(name, command, counts, needs_counts=False):
    """Runs one step, shows its output, and adds its counts."""
    print(f"\n== {name}: {' '.join(map(str, command))}", flush=True)
    began = time.monotonic()
    before = counts.failed
    counted = False
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in process.stdout:
        print(line, end="", flush=True)
        counted |= counts.read(line.rstrip())
    status = process.wait()
    seconds = time.monotonic() - began
    if status != 0 or (needs_counts and not counted):
        why = f"exit status {status}" if status else "it ran no test"
        print(f"== {name}: FAILED ({why}) after {seconds:.0f} s", flush=True)
        counts.broken.append(name)
        # A step that dies without counting a failure is still a failure.
        if counts.failed == before:
            counts.failed += 1
    else:
        print(f"== {name}: ok, {seconds:.0f} s", flush=True)
        if not needs_counts:
            counts.passed += 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="run only the steps whose name contains this")
    options = parser.parse_args()
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    if not target.is_absolute():
        target = ROOT / target
    dmux = target / "debug" / "dmux"

    # What is ignored by default needs BMv2.
    ignored = ["--", "--include-ignored"] if shutil.which("simple_switch_grpc") else []
    rust_tests = ["cargo", "test", "--workspace", "--locked", "--no-fail-fast", *ignored]
    steps = [
        ("format", lambda: ["cargo", "fmt", "--all", "--check"], False),
        ("P4 lock", lambda: [sys.executable, "p4src/check_lock.py"], False),
        ("clippy", lambda: ["cargo", "clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"], False),
        ("build", lambda: ["cargo", "build", "--workspace", "--locked", "--bins"], False),
        ("Rust tests", lambda: rust_tests, True),
        ("PTF", lambda: [python(), "ptf-tests/run.py", "--dmux", str(dmux)], True),
        # The PTF run has generated our stubs.
        ("P4Runtime messages", lambda: [python(), "proto/check_descriptors.py", "ptf-tests/build/stubs", str(PUBLISHED)], True),
    ]
    counts = Counts()
    for name, command, needs_counts in steps:
        if options.only and options.only not in name:
            continue
        try:
            step(name, command(), counts, needs_counts)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"== {name}: FAILED ({error})", flush=True)
            counts.broken.append(name)
            counts.failed += 1

    print()
    if counts.broken:
        print("failed steps: " + ", ".join(counts.broken))
    skipped = f", {counts.skipped} skipped" if counts.skipped else ""
    print(f"{counts.passed} passed, {counts.failed} failed{skipped}", flush=True)
    return 1 if counts.failed or counts.broken else 0


if __name__ == "__main__":
    sys.exit(main())
