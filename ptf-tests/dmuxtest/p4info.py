"""Names instead of numbers: P4Info as the tests need it."""

import socket

from google.protobuf import text_format
from p4.config.v1 import p4info_pb2
from p4.v1 import p4runtime_pb2

EXACT = p4info_pb2.MatchField.EXACT
LPM = p4info_pb2.MatchField.LPM
TERNARY = p4info_pb2.MatchField.TERNARY


def number(value) -> int:
    """A number from itself, from a dotted address or from a colon-separated MAC."""
    if isinstance(value, int):
        return value
    if ":" in value:
        return int(value.replace(":", ""), 16)
    return int.from_bytes(socket.inet_aton(value), "big")


def canonical(value) -> bytes:
    """P4Runtime's canonical byte string (specification 8.3): the shortest, zero is one byte."""
    value = number(value)
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


class P4Info:
    def __init__(self, path: str):
        with open(path, encoding="utf-8") as file:
            self.message = text_format.Parse(file.read(), p4info_pb2.P4Info())
        self.tables = {t.preamble.name: t for t in self.message.tables}
        self.actions = {a.preamble.name: a for a in self.message.actions}
        self.counters = {c.preamble.name: c for c in self.message.counters}
        self.digests = {d.preamble.name: d for d in self.message.digests}
        self.meters = {m.preamble.name: m for m in self.message.meters}
        self.headers = {h.preamble.name: h for h in self.message.controller_packet_metadata}

    def enum(self, name: str) -> dict[str, int]:
        """The members of a serializable enum, in small letters."""
        members = self.message.type_info.serializable_enums[name].members
        return {m.name.lower(): int.from_bytes(m.value, "big") for m in members}

    def action(self, name: str, params: dict) -> p4runtime_pb2.Action:
        info = self.actions[name]
        action = p4runtime_pb2.Action(action_id=info.preamble.id)
        if set(params) != {p.name for p in info.params}:
            raise KeyError(f"action {name} takes {[p.name for p in info.params]}, not {sorted(params)}")
        for param in info.params:
            action.params.add(param_id=param.id, value=canonical(params[param.name]))
        return action

    def entry(self, table: str, match: dict, action=None, params=None, priority=0) -> p4runtime_pb2.TableEntry:
        """`match`: exact value; LPM (value, length); ternary (value, mask). A field that is not named is not matched on."""
        info = self.tables[table]
        fields = {f.name: f for f in info.match_fields}
        entry = p4runtime_pb2.TableEntry(table_id=info.preamble.id, priority=priority)
        for name, value in match.items():
            field = fields[name]
            if field.match_type == LPM and value[1] == 0:
                continue  # "Don't care" is said by saying nothing (specification 9.1.1).
            item = entry.match.add(field_id=field.id)
            if field.match_type == EXACT:
                item.exact.value = canonical(value)
            elif field.match_type == LPM:
                item.lpm.value = canonical(value[0])
                item.lpm.prefix_len = value[1]
            elif field.match_type == TERNARY:
                item.ternary.value = canonical(value[0])
                item.ternary.mask = canonical(value[1])
            else:
                raise ValueError(f"{table}.{name}: match kind {field.match_type} is not used here")
        if action is not None:
            entry.action.action.CopyFrom(self.action(action, params or {}))
        return entry

    def encode_metadata(self, header: str, values: dict) -> list[p4runtime_pb2.PacketMetadata]:
        return [p4runtime_pb2.PacketMetadata(metadata_id=m.id, value=canonical(values.get(m.name, 0)))
                for m in self.headers[header].metadata]

    def decode_metadata(self, header: str, metadata) -> dict[str, int]:
        names = {m.id: m.name for m in self.headers[header].metadata}
        return {names[m.metadata_id]: int.from_bytes(m.value, "big") for m in metadata}
