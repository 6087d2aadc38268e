"""The base of every test: one switch, its whole state watched around each frame, and every write undone."""

import queue
import time

import ptf
from ptf.base_tests import BaseTest
from ptf import testutils

from p4.v1 import p4runtime_pb2

from dmuxtest import packets
from dmuxtest.p4info import P4Info
from dmuxtest.p4runtime import Client

CPU_PORT = 510
WAN_PORTS = (1, 2, 3, 4)
ROLE_WAN, ROLE_CPU, ROLE_ACCESS = 1, 2, 3
FRAME_TIMEOUT = 20
# Frames between two fences: BMv2's receive buffer holds about eight.
BURST = 4

# A frame that only these tests send (IEEE 802, local experimental 2): it is punted under a reason of its own, so that its
# arrival proves that all frames before it on the same port have been dealt with. No waiting for nothing to happen.
FENCE_TYPE = 0x88B6
FENCE_REASON = 15

INSERT, MODIFY, DELETE = p4runtime_pb2.Update.INSERT, p4runtime_pb2.Update.MODIFY, p4runtime_pb2.Update.DELETE


def port_mac(port: int) -> str:
    return f"02:00:00:00:01:{port:02x}"


def neighbour_mac(port: int) -> str:
    return f"02:00:00:00:02:{port:02x}"


class Switch:
    """The connection that all tests of a run share, with the pipeline loaded once."""

    _instance = None

    def __init__(self):
        prefix = testutils.test_param_get("pipeline")
        self.p4info = P4Info(f"{prefix}.p4info.txtpb")
        self.client = Client(testutils.test_param_get("grpcaddr"), device_id=1, election_id=1)
        self.client.become_primary()
        with open(f"{prefix}.json", "rb") as file:
            self.client.set_pipeline(self.p4info.message, file.read())

    @classmethod
    def get(cls) -> "Switch":
        if cls._instance is None:
            cls._instance = cls()
        return cls._instance


class Outcome:
    """All that one frame caused: what left on which port, what the controller got, which drop reasons counted."""

    def __init__(self, sent, punted, drops):
        self.sent = sent
        self.punted = punted
        self.drops = drops

    def __repr__(self):
        sent = {port: [f.hex() for f in frames] for port, frames in self.sent.items() if frames}
        return f"sent {sent}, punted {[(m, p.hex()) for m, p in self.punted]}, drops {self.drops}"


class SwitchTest(BaseTest):
    """Knows frames, entries and counters, and nothing of what the gateway does with them."""

    maxDiff = None

    def setUp(self):
        super().setUp()
        self.dataplane = ptf.dataplane_instance
        self.dataplane.flush()
        switch = Switch.get()
        self.p4info = switch.p4info
        self.client = switch.client
        self.drop_reasons = {v: k for k, v in self.p4info.enum("DropReason").items()}
        self.punt_reasons = self.p4info.enum("PuntReason")
        self._inserted = []
        self._configured_meters = set()
        self._digests = set()
        self._groups = set()
        self._fences = 0

    def tearDown(self):
        self._undo()
        super().tearDown()

    def run(self, result=None):
        # unittest skips tearDown when setUp fails: what had been written by then must go all the same.
        super().run(result)
        if getattr(self, "_inserted", None):
            self._undo()

    def _undo(self):
        inserted, self._inserted = self._inserted, []
        if inserted:
            self.client.write([self._update(DELETE, self._key(e)) for e in reversed(inserted)])
        for name, index in self._configured_meters:
            self._write_meter(name, index, None)
        self._configured_meters = set()
        for name in self._digests:
            self._write_digest(DELETE, name)
        self._digests = set()
        for group in self._groups:
            self._write_group(DELETE, group, ())
        self._groups = set()

    # ---- entries ----

    @staticmethod
    def _update(kind, entry):
        update = p4runtime_pb2.Update(type=kind)
        update.entity.table_entry.CopyFrom(entry)
        return update

    @staticmethod
    def _key(entry):
        key = p4runtime_pb2.TableEntry()
        key.CopyFrom(entry)
        key.ClearField("action")
        return key

    def entry(self, table, match, action=None, priority=0, **params):
        return self.p4info.entry(table, match, action, params, priority)

    def insert_all(self, entries):
        """Writes the entries in one batch; each is deleted again when the test ends."""
        self.client.write([self._update(INSERT, e) for e in entries])
        self._inserted.extend(entries)

    def insert(self, table, match, action, priority=0, **params):
        self.insert_all([self.entry(table, match, action, priority, **params)])

    def modify(self, table, match, action, priority=0, **params):
        self.client.write([self._update(MODIFY, self.entry(table, match, action, priority, **params))])

    def delete(self, table, match, priority=0):
        self.delete_entry(self.entry(table, match, priority=priority))

    def delete_entry(self, entry):
        key = self._key(entry)
        self.client.write([self._update(DELETE, key)])
        self._inserted = [e for e in self._inserted if self._key(e) != key]

    def read_table(self, table):
        entity = p4runtime_pb2.Entity()
        entity.table_entry.table_id = self.p4info.tables[table].preamble.id
        return [e.table_entry for e in self.client.read(entity)]

    # ---- counters and meters ----

    def drop_counts(self) -> dict[int, tuple[int, int]]:
        """Packets and bytes of every drop reason that has any."""
        entity = p4runtime_pb2.Entity()
        entity.counter_entry.counter_id = self.p4info.counters["drops"].preamble.id
        cells = (e.counter_entry for e in self.client.read(entity))
        return {c.index.index: (c.data.packet_count, c.data.byte_count) for c in cells if c.data.packet_count}

    def direct_count(self, table, match) -> tuple[int, int]:
        entity = p4runtime_pb2.Entity()
        entity.direct_counter_entry.table_entry.CopyFrom(self.entry(table, match))
        (answer,) = self.client.read(entity)
        data = answer.direct_counter_entry.data
        return data.packet_count, data.byte_count

    def set_meter(self, name, index, rate, burst):
        """Packets per second; undone when the test ends."""
        self._write_meter(name, index, (rate, burst))
        self._configured_meters.add((name, index))

    def set_direct_meter(self, table, match, rate, burst):
        """Bytes per second of one entry, with which it goes again."""
        update = p4runtime_pb2.Update(type=MODIFY)
        meter = update.entity.direct_meter_entry
        meter.table_entry.CopyFrom(self.entry(table, match))
        meter.config.cir = meter.config.pir = rate
        meter.config.cburst = meter.config.pburst = burst
        self.client.write([update])

    def cell(self, counter, index) -> tuple[int, int]:
        """Packets and bytes of one cell of an indirect counter."""
        entity = p4runtime_pb2.Entity()
        entity.counter_entry.counter_id = self.p4info.counters[counter].preamble.id
        entity.counter_entry.index.index = index
        (answer,) = self.client.read(entity)
        return answer.counter_entry.data.packet_count, answer.counter_entry.data.byte_count

    # ---- digests and multicast ----

    def ask_for_digests(self, name):
        """Every message of the digest from now on, one a message; undone when the test ends."""
        self._write_digest(INSERT, name)
        self._digests.add(name)

    def _write_digest(self, kind, name):
        update = p4runtime_pb2.Update(type=kind)
        entry = update.entity.digest_entry
        entry.digest_id = self.p4info.digests[name].preamble.id
        if kind != DELETE:
            entry.config.max_list_size = 1
        self.client.write([update])

    def digests_until(self, name, last: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The members of the messages of the digest, up to the one that must come. A target may begin with some that earlier
        tests caused."""
        seen = []
        while last not in seen:
            try:
                message = self.client.digests.get(timeout=FRAME_TIMEOUT)
            except queue.Empty:
                self.fail(f"no {last} of the digest {name}, only {seen}")
            if message.digest_id == self.p4info.digests[name].preamble.id:
                self.client.acknowledge(message)
                seen += [tuple(int.from_bytes(m.bitstring, "big") for m in data.struct.members) for data in message.data]
        return seen

    def add_group(self, group, *ports):
        """A multicast group; undone when the test ends."""
        self._write_group(INSERT, group, ports)
        self._groups.add(group)

    def _write_group(self, kind, group, ports):
        update = p4runtime_pb2.Update(type=kind)
        entry = update.entity.packet_replication_engine_entry.multicast_group_entry
        entry.multicast_group_id = group
        for port in ports:
            entry.replicas.add(egress_port=port, instance=1)
        self.client.write([update])

    def _write_meter(self, name, index, limits):
        update = p4runtime_pb2.Update(type=MODIFY)
        meter = update.entity.meter_entry
        meter.meter_id = self.p4info.meters[name].preamble.id
        meter.index.index = index
        if limits is not None:
            rate, burst = limits
            meter.config.cir = meter.config.pir = rate
            meter.config.cburst = meter.config.pburst = burst
        self.client.write([update])

    def wait_until(self, condition):
        """For what no fence can announce."""
        deadline = time.monotonic() + FRAME_TIMEOUT
        while not condition():
            self.assertLess(time.monotonic(), deadline, "waited in vain")
            time.sleep(0.01)

    # ---- frames ----

    def packet_out(self, frame: bytes, egress_port=0, submit=0):
        values = {"egress_port": egress_port, "submit_to_ingress": submit}
        self.client.packet_out(frame, self.p4info.encode_metadata("packet_out", values))

    def send(self, port: int, frame: bytes):
        testutils.send_packet(self, port, frame)

    def exchange(self, port: int, *frames: bytes) -> Outcome:
        """Sends frames into a port and returns everything that came of them."""
        punted = []

        def stimulus():
            for start in range(0, len(frames), BURST):
                for frame in frames[start:start + BURST]:
                    self.send(port, frame)
                punted.extend(self._pass_controller_fence(port))

        return self._observe(stimulus, punted)

    def exchange_packet_out(self, frame: bytes, egress_port=0, submit=0) -> Outcome:
        """Sends a packet-out and returns everything that came of it."""
        return self._observe(lambda: self.packet_out(frame, egress_port, submit), [])

    def exchange_fenceless(self, port: int, frame: bytes, reason: str) -> Outcome:
        """Like `exchange`, for a port that lets nothing pass, fences included: waits until the frame is counted."""
        cell = self.p4info.enum("DropReason")[reason]
        before = self.drop_counts().get(cell)

        def stimulus():
            self.send(port, frame)
            self.wait_until(lambda: self.drop_counts().get(cell) != before)

        return self._observe(stimulus, [])

    def _observe(self, stimulus, punted) -> Outcome:
        """`stimulus` returns when the switch has dealt with what it sent, and adds what the controller got to `punted`."""
        # Frames keep their order on their way from one port to another, from a port to the controller and from the
        # controller to a port. So after a fence on the way in there need be only one on every way out.
        before = self.drop_counts()
        stimulus()
        sent = self._pass_port_fences()
        punted += self._pass_controller_fence(WAN_PORTS[0])
        after = self.drop_counts()
        drops = {}
        for index, (count, size) in after.items():
            old_count, old_size = before.get(index, (0, 0))
            if (count, size) != (old_count, old_size):
                drops[self.drop_reasons.get(index, index)] = (count - old_count, size - old_size)
        return Outcome(sent, punted, drops)

    def _fence(self, dst: str) -> bytes:
        self._fences += 1
        return packets.ethernet(dst, "02:00:00:00:00:fe", FENCE_TYPE, self._fences.to_bytes(46, "big"))

    def _pass_controller_fence(self, port) -> list:
        fence = self._fence(port_mac(port))
        self.send(port, fence)
        punted = []
        while True:
            try:
                packet = self.client.packets.get(timeout=FRAME_TIMEOUT)
            except queue.Empty:
                self.fail(f"what is to be punted from port {port} does not reach the controller")
            if packet.payload == fence:
                return punted
            punted.append((self.p4info.decode_metadata("packet_in", packet.metadata), packet.payload))

    def _pass_port_fences(self) -> dict[int, list[bytes]]:
        fences = {port: self._fence("02:00:00:00:00:ff") for port in WAN_PORTS}
        for port, fence in fences.items():
            self.packet_out(fence, egress_port=port)
        sent = {}
        for port, fence in fences.items():
            sent[port] = []
            while True:
                result = self.dataplane.poll(device_number=0, port_number=port, timeout=FRAME_TIMEOUT)
                if not isinstance(result, self.dataplane.PollSuccess):
                    self.fail(f"the frame that the controller sent out of port {port} did not come out")
                if bytes(result.packet) == fence:
                    break
                sent[port].append(bytes(result.packet))
        return sent

    # ---- what must have come of a frame ----

    def check(self, outcome: Outcome, *, sent=None, drops=None, punted=None):
        """The whole outcome: `sent` {port: frame}, `drops` {reason: packets}, `punted` [(metadata, frame)]."""
        expected = {port: [] for port in WAN_PORTS}
        for port, frame in (sent or {}).items():
            expected[port] = [frame.hex()]
        self.assertEqual({port: [f.hex() for f in frames] for port, frames in outcome.sent.items()}, expected, outcome)
        self.assertEqual({reason: count for reason, (count, _) in outcome.drops.items()}, drops or {}, outcome)
        self.assertEqual([p.hex() for _, p in outcome.punted], [p.hex() for _, p in punted or []], outcome)
        for (metadata, _), (wanted, _) in zip(outcome.punted, punted or []):
            self.assertGreater(metadata["t_in"], 0, "t_in is the arrival time")
            metadata = {k: v for k, v in metadata.items() if k != "t_in"}
            self.assertEqual(metadata, {"pad": 0, "path_mtu": 0, **wanted}, outcome)

    def assert_drops(self, port, frame, reason, punted=None):
        """The frame counts once under `reason` with its bytes, and nothing leaves (save what the controller gets)."""
        outcome = self.exchange(port, frame)
        self.check(outcome, drops={reason: 1}, punted=punted)
        self.assertEqual(outcome.drops[reason], (1, len(frame)), "bytes of the dropped frame")

    def assert_sends(self, port, frame, out_port, expected):
        self.check(self.exchange(port, frame), sent={out_port: expected})

    def assert_punts(self, port, frame, reason, **metadata):
        self.check(self.exchange(port, frame), punted=[self.punt(port, frame, reason, **metadata)])

    def punt(self, port, frame, reason, **metadata):
        return {"ingress_port": port, "reason": self.punt_reasons[reason], **metadata}, frame
