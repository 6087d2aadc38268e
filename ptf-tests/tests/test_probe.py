"""Probes: stamped on the way out, reflected in the data plane, punted on the way back."""

from dmuxtest import packets as p
from dmuxtest.gateway import FAR_SIDE, GATEWAY, GATEWAY_SIDE, PEER, GatewayTest, into, out_of, probe_packet

# Where things lie in the frame of a probe.
PROBE_AT = 14 + 20 + 8 + 8
T_OUT, T_REFLECT_IN, T_REFLECT_OUT = (slice(PROBE_AT + 8 + 6 * n, PROBE_AT + 14 + 6 * n) for n in range(3))


def time_at(frame: bytes, where: slice) -> int:
    return int.from_bytes(frame[where], "big")


class ProbeTest(GatewayTest):
    def the_frame(self, outcome, port):
        """The one frame that came out, from the port given; nothing else happened."""
        self.assertEqual({n: len(frames) for n, frames in outcome.sent.items() if frames}, {port: 1}, outcome)
        self.assertEqual((outcome.drops, outcome.punted), ({}, []), outcome)
        return outcome.sent[port][0]

    def assert_reflected(self, request: dict, port=GATEWAY_SIDE, **changed):
        outcome = self.exchange(port, into(port, probe_packet(**request)))
        frame = self.the_frame(outcome, GATEWAY_SIDE)
        times = (request.get("times", (0, 0, 0))[0], time_at(frame, T_REFLECT_IN), time_at(frame, T_REFLECT_OUT))
        self.assertGreater(times[1], 0)
        self.assertGreaterEqual(times[2], times[1])
        # With the times that it has, every byte and checksum is what it must be.
        reply = probe_packet(p.PROBE_REPLY, src=GATEWAY, dst=PEER, times=times, **changed)
        self.assertEqual(frame.hex(), out_of(GATEWAY_SIDE, reply).hex())
        return times


class Reflect(ProbeTest):
    def runTest(self):
        first = self.assert_reflected({"times": (0x123456789ABC, 0, 0)})
        second = self.assert_reflected({"times": (0xFFFFFFFFFFFF, 5, 6)})
        self.assertGreater(second[1], first[2], "time goes on")


class ReflectSwapsPorts(ProbeTest):
    def runTest(self):
        self.assert_reflected({"src_port": 40001}, src_port=p.DMUX_PORT, dst_port=40001)


class ReflectIgnoresTtlAndFlags(ProbeTest):
    """A request ends here, so its TTL may be 1; a reply starts with one of its own."""

    def runTest(self):
        for ttl in (1, 255):
            self.assert_reflected({"ttl": ttl, "flags": 0xFF, "times": (9, 0, 0)}, ttl=64)


class ReflectIgnoresReservedBits(ProbeTest):
    def runTest(self):
        self.assert_reflected({"reserved": (0xFF, 0xFFFF)})


class ReflectComputesTheChecksum(ProbeTest):
    def runTest(self):
        self.assert_reflected({"udp_checksum": 0})
        self.assert_reflected({"udp_checksum": 0xDEAD})


class ReflectFromAnotherPort(ProbeTest):
    """A reply goes where the route says, not where the request came from."""

    def runTest(self):
        self.assert_reflected({}, port=FAR_SIDE)


class ReflectWithPadding(ProbeTest):
    def runTest(self):
        outcome = self.exchange(GATEWAY_SIDE, into(GATEWAY_SIDE, probe_packet()) + bytes(3))
        frame = self.the_frame(outcome, GATEWAY_SIDE)
        times = tuple(time_at(frame, where) for where in (T_OUT, T_REFLECT_IN, T_REFLECT_OUT))
        reply = out_of(GATEWAY_SIDE, probe_packet(p.PROBE_REPLY, src=GATEWAY, dst=PEER, times=times)) + bytes(3)
        self.assertEqual(frame.hex(), reply.hex())


class UnknownProber(ProbeTest):
    def runTest(self):
        for src in ("192.0.2.3", "203.0.113.100"):
            with self.subTest(src=src):
                self.assert_drops(GATEWAY_SIDE, into(GATEWAY_SIDE, probe_packet(src=src)), "unknown_prober")


class ReplyIsPunted(ProbeTest):
    """As it came in, with the time of its arrival."""

    def runTest(self):
        frame = into(GATEWAY_SIDE, probe_packet(p.PROBE_REPLY, times=(1, 2, 3)))
        arrivals = []
        for _ in range(2):
            outcome = self.exchange(GATEWAY_SIDE, frame)
            self.check(outcome, punted=[self.punt(GATEWAY_SIDE, frame, "probe_reply")])
            arrivals.append(outcome.punted[0][0]["t_in"])
        self.assertGreater(arrivals[1], arrivals[0])


class ReplyWithoutARule(ProbeTest):
    def runTest(self):
        match = {"dst": (GATEWAY, 0xFFFFFFFF), "protocol": (p.UDP, 0xFF), "dst_port": (p.DMUX_PORT, 0xFFFF),
                 "shim_kind": (p.PROBE, 0xFF), "probe_type": (p.PROBE_REPLY, 0xFF)}
        self.delete("punt", match, priority=10)
        self.assert_drops(GATEWAY_SIDE, into(GATEWAY_SIDE, probe_packet(p.PROBE_REPLY)), "bad_probe")


class RequestFromTheController(ProbeTest):
    """Routed like any packet of the controller's; t_out is stamped, and the checksum is right for it."""

    def runTest(self):
        stamps = []
        for udp_checksum in (None, 0):
            request = {"src": GATEWAY, "dst": PEER, "ttl": 64}
            outcome = self.exchange_packet_out(into(1, probe_packet(**request, udp_checksum=udp_checksum)), submit=1)
            frame = self.the_frame(outcome, GATEWAY_SIDE)
            times = (time_at(frame, T_OUT), 0, 0)
            self.assertGreater(times[0], 0)
            self.assertEqual(frame.hex(), out_of(GATEWAY_SIDE, probe_packet(**request, times=times)).hex())
            stamps.append(times[0])
        self.assertGreater(stamps[1], stamps[0])


class ReplyFromTheControllerIsNotStamped(ProbeTest):
    def runTest(self):
        reply = probe_packet(p.PROBE_REPLY, src=GATEWAY, dst=PEER, times=(1, 2, 3))
        self.check(self.exchange_packet_out(into(1, reply), submit=1), sent={GATEWAY_SIDE: out_of(GATEWAY_SIDE, reply)})


class TransitProbesAreNotStamped(ProbeTest):
    def runTest(self):
        for type_ in (p.PROBE_REQUEST, p.PROBE_REPLY):
            with self.subTest(type=type_):
                packets = [probe_packet(type_, src="203.0.113.1", dst="192.0.2.9", ttl=ttl) for ttl in (64, 63)]
                self.assert_sends(FAR_SIDE, into(FAR_SIDE, packets[0]), GATEWAY_SIDE, out_of(GATEWAY_SIDE, packets[1]))


class RequestSentOutOfAPortIsNotStamped(ProbeTest):
    """A packet-out with a port leaves as it is."""

    def runTest(self):
        frame = out_of(GATEWAY_SIDE, probe_packet(src=GATEWAY, dst=PEER))
        self.check(self.exchange_packet_out(frame, egress_port=FAR_SIDE), sent={FAR_SIDE: frame})
