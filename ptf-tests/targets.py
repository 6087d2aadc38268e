"""The switches that the tests run against: processes with one port on each veth pair."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import namespace

DEVICE_ID = 1
CPU_PORT = 510
# Of each port; provisioned metalinks have the highest.
QUEUES = 8
START_TIMEOUT = 30
STOP_TIMEOUT = 10


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def embedded_command(dmux: str, address: str, interfaces: dict[int, str]) -> list[str]:
    command = [dmux, "switch", "--p4runtime", address, "--device-id", str(DEVICE_ID), "--cpu-port", str(CPU_PORT),
               "--priority-queues", str(QUEUES)]
    for port, interface in interfaces.items():
        command += ["--port", f"{port}@{interface}"]
    return command


def bmv2_command(_: str, address: str, interfaces: dict[int, str]) -> list[str]:
    command = ["simple_switch_grpc", "--no-p4", "--device-id", str(DEVICE_ID), "--log-level", "warn", "--log-console"]
    # Its Thrift server has a fixed port of its own, which a namespace makes harmless.
    for port, interface in interfaces.items():
        command += ["-i", f"{port}@{interface}"]
    return command + ["--", "--grpc-server-addr", address, "--cpu-port", str(CPU_PORT), "--priority-queues", str(QUEUES)]


COMMANDS = {"embedded": embedded_command, "bmv2": bmv2_command}


def bmv2_is_there() -> bool:
    return shutil.which("simple_switch_grpc") is not None


class Target:
    """A running switch; a context manager that leaves no process behind."""

    def __init__(self, name: str, dmux: str, interfaces: dict[int, str], log: Path):
        self.name = name
        self.address = f"127.0.0.1:{free_port()}"
        self.log = log
        self._command = COMMANDS[name](dmux, self.address, interfaces)
        self._process = None

    def __enter__(self):
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                             preexec_fn=namespace.die_with_parent)
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait_until_it_listens(self):
        host, port = self.address.split(":")
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.name}: ended with status {self._process.returncode} before it listened:\n"
                                   f"{' '.join(self._command)}\n{self.tail()}")
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{self.name}: does not listen on {self.address} after {START_TIMEOUT} s:\n"
                                       f"{self.tail()}") from None
                time.sleep(0.05)

    def tail(self, size=4000) -> str:
        return self.log.read_text(errors="replace")[-size:]

    @property
    def died(self) -> bool:
        return self._process.poll() is not None

    def __exit__(self, *_):
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def check_dmux(path: str):
    if not os.access(path, os.X_OK):
        raise RuntimeError(f"{path} is not a program; build it with `cargo build -p dmux`, or name it with --dmux")
