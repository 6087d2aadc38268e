#!/usr/bin/env python3
"""Runs the PTF tests of the gateway against the embedded switch, and against BMv2 too where it is on PATH.

The same tests, the same results. Makes a network namespace and veth pairs of its own, so it needs root or unprivileged user
namespaces, and disturbs nothing. Needs the packages of requirements.txt. Ends with a line "N passed, N failed".
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = HERE / "build"
sys.path.insert(0, str(HERE))

import namespace  # noqa: E402
import targets  # noqa: E402

PORTS = (1, 2, 3, 4)
# Larger than any frame of the tests, so that the veth pairs never decide what fits.
VETH_MTU = 4000
PROTOS = ["google/rpc/status.proto", "p4/v1/p4data.proto", "p4/v1/p4runtime.proto", "p4/config/v1/p4types.proto",
          "p4/config/v1/p4info.proto"]


def check_packages():
    missing = [name for name in ("ptf", "grpc", "grpc_tools", "google.protobuf") if not there(name)]
    if missing:
        raise RuntimeError(f"this Python has no {', '.join(missing)}; use one that has ptf-tests/requirements.txt installed "
                           "(make test makes it in .venv)")


def there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def generate_stubs():
    """P4Runtime's Python messages from our own .proto files, where they are older than those."""
    stamp = BUILD / "stubs" / ".generated"
    sources = [ROOT / "proto" / name for name in PROTOS]
    if stamp.exists() and all(stamp.stat().st_mtime > s.stat().st_mtime for s in sources):
        return
    stamp.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", f"--python_out={stamp.parent}",
                    f"--grpc_python_out={stamp.parent}", *PROTOS], check=True)
    stamp.touch()


def outcomes_of(name: str) -> str:
    """Where test_random writes what came of each of its frames."""
    return str(BUILD / f"outcomes-{name}.json")


def compare_outcomes(names: list[str]) -> str | None:
    """The targets must agree frame for frame. What they differ in, or None; also None where they did not get so far."""
    runs = []
    for name in names:
        try:
            runs.append(json.loads(Path(outcomes_of(name)).read_text(encoding="ascii")))
        except FileNotFoundError:
            return None
    for number, outcomes in enumerate(zip(*runs)):
        if any(outcome != outcomes[0] for outcome in outcomes):
            return "\n".join([f"frame {number} of test_random:", *(f"  {n}: {o}" for n, o in zip(names, outcomes))])
    return None


class Counts:
    def __init__(self, passed=0, failed=0):
        self.passed = passed
        self.failed = failed

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed"


def count(output: str, status: int) -> Counts:
    """From unittest's own words; a run that ended without them has failed as a whole."""
    ran = re.search(r"^Ran (\d+) tests? in", output, re.MULTILINE)
    if ran is None:
        return Counts(failed=1)
    # A test may fail in several subtests, and counts once: its line does not say ok.
    passed = len(re.findall(r"(?:\.\.\. |^)ok$", output, re.MULTILINE))
    failed = int(ran[1]) - passed
    return Counts(passed, max(failed, 1 if status else 0))


def run_target(name: str, arguments, results) -> None:
    """In a process of its own, since a namespace is entered for good."""
    namespace.die_with_parent()
    counts = Counts(failed=1)
    try:
        namespace.enter()
        namespace.set_up("lo")
        for port in PORTS:
            namespace.make_veth(f"veth{port}", f"ptf{port}", VETH_MTU)
        with tempfile.TemporaryDirectory(prefix="dmux-ptf-") as scratch:
            log = Path(scratch) / "switch.log"
            with targets.Target(name, arguments.dmux, {p: f"veth{p}" for p in PORTS}, log) as target:
                output, status = run_ptf(target, arguments, scratch)
                counts = count(output, status)
                if target.died:
                    counts.failed += 1
                    print(f"{name}: the switch ended during the tests", flush=True)
            if counts.failed:
                print(f"---- the end of {name}'s log ----\n{target.tail()}", flush=True)
    except RuntimeError as error:
        print(f"{name}: {error}", flush=True)
    results.put((counts.passed, counts.failed))


def run_ptf(target, arguments, scratch) -> tuple[str, int]:
    ptf = Path(sys.executable).parent / "ptf"
    command = [sys.executable, str(ptf), "--test-dir", str(HERE / "tests"), "--log-dir", os.path.join(scratch, "ptf"),
               "--platform", "eth"]
    for port in PORTS:
        command += ["-i", f"{port}@ptf{port}"]
    parameters = {"grpcaddr": target.address, "pipeline": arguments.pipeline, "outcomes": outcomes_of(target.name)}
    command += ["-t", ";".join(f"{name}={value!r}" for name, value in parameters.items()), *arguments.tests]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(HERE), str(BUILD / "stubs")]), PYTHONDONTWRITEBYTECODE="1")
    process = subprocess.Popen(command, cwd=scratch, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, errors="replace", preexec_fn=namespace.die_with_parent)
    lines = []
    for line in process.stdout:
        lines.append(line)
        print(line, end="", flush=True)
    return "".join(lines), process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=sorted(targets.COMMANDS), help="one target only (default: all that are there)")
    parser.add_argument("--dmux", default=str(ROOT / "target" / "debug" / "dmux"), help="the program dmux (%(default)s)")
    parser.add_argument("--pipeline", default=str(ROOT / "bmv2-configs" / "gateway"),
                        help="what goes before .json and .p4info.txtpb (%(default)s)")
    parser.add_argument("tests", nargs="*", help="tests to run, as PTF names them: test_route, test_route.Ecmp (default: all)")
    arguments = parser.parse_args()

    chosen = [arguments.target] if arguments.target else ["embedded"] + (["bmv2"] if targets.bmv2_is_there() else [])
    try:
        if "embedded" in chosen:
            targets.check_dmux(arguments.dmux)
        if "bmv2" in chosen and not targets.bmv2_is_there():
            raise RuntimeError("simple_switch_grpc is not on PATH; install BMv2, or leave --target away")
        check_packages()
        generate_stubs()
    except (RuntimeError, subprocess.CalledProcessError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2

    total = Counts()
    context = multiprocessing.get_context("fork")
    for name in chosen:
        Path(outcomes_of(name)).unlink(missing_ok=True)
    for name in chosen:
        results = context.SimpleQueue()
        process = context.Process(target=run_target, args=(name, arguments, results))
        process.start()
        process.join()
        passed, failed = results.get() if not results.empty() else (0, 1)
        print(f"ptf, {name}: {Counts(passed, failed)}", flush=True)
        total.passed += passed
        total.failed += failed
    if len(chosen) > 1:
        difference = compare_outcomes(chosen)
        if difference:
            total.failed += 1
            print(f"ptf: the targets differ: {difference}", flush=True)
    print(total)
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    sys.exit(main())
