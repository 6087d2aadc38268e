"""Frames that nobody thought of: every one is accounted for, and comes out of every target alike."""

import json
import random
import struct

from ptf import testutils

from dmuxtest import packets as p
from dmuxtest.gateway import CLIENT_SIDE, GATEWAY_SIDE, ROUTER_SIDE, GatewayTest, control_packet, from_client, from_router, \
    into, probe_packet, transit_packet

SEED = 20260101
FRAMES = 400
HEADERS = 14 + 20 + 8 + 8 + 28
# Reasons under which a frame is dropped and shown to the controller.
PUNTED_TOO = {"ttl_expired", "too_big", "no_route"}


def repaired(frame: bytearray) -> bytes:
    """With a right IPv4 header checksum, so that what is changed gets deeper into the pipeline."""
    if len(frame) >= 34:
        frame[24:26] = b"\0\0"
        frame[24:26] = struct.pack("!H", p.checksum(bytes(frame[14:34])))
    return bytes(frame)


def random_frame(rng: random.Random) -> tuple[int, bytes]:
    port, packet = rng.choice([
        (CLIENT_SIDE, lambda size: from_client(bytes(size))), (ROUTER_SIDE, lambda size: from_router(bytes(size))),
        (GATEWAY_SIDE, lambda size: probe_packet(extra=bytes(size % 2))),
        (GATEWAY_SIDE, lambda size: probe_packet(p.PROBE_REPLY)), (ROUTER_SIDE, lambda size: control_packet(payload=bytes(size))),
        (CLIENT_SIDE, lambda size: transit_packet(bytes(size))),
    ])
    frame = bytearray(into(port, packet(rng.choice([0, 1, 7, 8, 64, 1400, 1450, 1500]))))
    for _ in range(rng.choice([0, 1, 1, 2, 4])):
        place = rng.randrange(min(HEADERS, len(frame)))
        kind = rng.randrange(4)
        if kind == 0:
            frame[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            frame[place] = rng.randrange(256)
        elif kind == 2:
            # An Ethernet header at least: the kernel sends nothing shorter.
            del frame[max(14, place):]
        else:
            frame += bytes(rng.randrange(1, 30))
    return port, repaired(frame) if rng.random() < 0.7 else bytes(frame)


class RandomFrames(GatewayTest):
    def runTest(self):
        rng = random.Random(SEED)
        outcomes = []
        for number in range(FRAMES):
            port, frame = random_frame(rng)
            outcome = self.exchange(port, frame)
            sent = [(out, f) for out, frames in outcome.sent.items() for f in frames]
            dropped = [reason for reason, (count, _) in outcome.drops.items() for _ in range(count)]
            with self.subTest(seed=SEED, number=number, port=port, frame=frame.hex()):
                self.assertLessEqual(len(dropped), 1, "one reason")
                if dropped and dropped[0] in PUNTED_TOO:
                    self.assertEqual((len(sent), len(outcome.punted)), (0, 1), outcome)
                else:
                    self.assertEqual(len(sent) + len(outcome.punted) + len(dropped), 1, outcome)
                for _, original in outcome.punted:
                    self.assertEqual(original.hex(), frame.hex(), "punted frames are as they came in")
                for _, f in sent:
                    self.assertEqual(p.checksum(f[14:34]), 0, "the header checksum is right")
            outcomes.append({
                "port": port, "frame": frame.hex(), "dropped": dropped,
                "sent": [(out, self.without_times(f)) for out, f in sent],
                "punted": [({k: v for k, v in metadata.items() if k != "t_in"}, f.hex()) for metadata, f in outcome.punted],
            })
        # run.py compares the targets' files.
        path = testutils.test_param_get("outcomes")
        if path:
            with open(path, "w", encoding="ascii") as file:
                json.dump(outcomes, file)

    @staticmethod
    def without_times(frame: bytes) -> str:
        """Without what is never twice the same: the stamps of a reflected probe, and the checksum over them."""
        if len(frame) >= 78 and frame[34:36] == struct.pack("!H", p.DMUX_PORT) and frame[42:43] == b"\x15":
            frame = frame[:40] + b"\0\0" + frame[42:58] + bytes(18) + frame[76:]
        return frame.hex()
