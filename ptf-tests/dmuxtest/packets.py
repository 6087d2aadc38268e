"""Frames, byte by byte. An oracle of its own: every checksum is computed in full, nothing is taken from the switch."""

import socket
import struct

ETHER_IPV4 = 0x0800
ETHER_ARP = 0x0806
ETHER_VLAN = 0x8100
ETHER_SUBSTRATE = 0x88B5
UDP = 17
DMUX_PORT = 51700

DATA, FORWARD, RETURN, DELIVER, CONTROL, PROBE = range(6)
PROBE_REQUEST, PROBE_REPLY = 1, 2


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def ipv4_address(text: str) -> bytes:
    return socket.inet_aton(text)


def ones_complement_sum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksum(data: bytes) -> int:
    return ~ones_complement_sum(data) & 0xFFFF


def ethernet(dst: str, src: str, ether_type: int, payload: bytes) -> bytes:
    return mac(dst) + mac(src) + struct.pack("!H", ether_type) + payload


def tagged(vid: int, ether_type: int, payload: bytes, *, pcp=0) -> bytes:
    """What follows an Ethernet header of type 802.1Q."""
    return struct.pack("!HH", pcp << 13 | vid, ether_type) + payload


def substrate(mli: int, metaframe: bytes, *, flags=0, version=1) -> bytes:
    return struct.pack("!I", version << 28 | flags << 24 | mli) + metaframe


def ipv4(src: str, dst: str, protocol: int, payload: bytes, *, ttl=64, identification=0x1234, tos=0, fragment_flags=2, offset=0,
         version=4, ihl=None, total_len=None, header_checksum=None, options=b"") -> bytes:
    """An IPv4 packet; whatever is given wins over what would be right. `fragment_flags`: 4 reserved, 2 DF, 1 MF."""
    ihl = 5 + len(options) // 4 if ihl is None else ihl
    total_len = 20 + len(options) + len(payload) if total_len is None else total_len

    def header(value: int) -> bytes:
        return struct.pack("!BBHHHBBH", version << 4 | ihl, tos, total_len, identification, fragment_flags << 13 | offset, ttl,
                           protocol, value) + ipv4_address(src) + ipv4_address(dst) + options

    value = checksum(header(0)) if header_checksum is None else header_checksum
    return header(value) + payload


def udp_sum(src: str, dst: str, segment: bytes) -> int:
    """The checksum of a UDP segment whose checksum field is zero, as computed (0 is not yet 0xFFFF)."""
    pseudo = ipv4_address(src) + ipv4_address(dst) + struct.pack("!BBH", 0, UDP, struct.unpack("!H", segment[4:6])[0])
    return checksum(pseudo + segment)


def udp(src: str, dst: str, src_port: int, dst_port: int, payload: bytes, *, length=None, udp_checksum=None) -> bytes:
    length = 8 + len(payload) if length is None else length

    def segment(value: int) -> bytes:
        return struct.pack("!HHHH", src_port, dst_port, length, value) + payload

    if udp_checksum is None:
        udp_checksum = udp_sum(src, dst, segment(0)) or 0xFFFF
    return segment(udp_checksum)


def datagram(src: str, dst: str, src_port: int, dst_port: int, payload: bytes, *, length=None, udp_checksum=None,
             **ip) -> bytes:
    """An IPv4 packet that carries one UDP datagram."""
    return ipv4(src, dst, UDP, udp(src, dst, src_port, dst_port, payload, length=length, udp_checksum=udp_checksum), **ip)


def shim(kind: int, protocol=41, provider=1, *, flags=0, version=1) -> bytes:
    return struct.pack("!BBHI", version << 4 | kind, flags, protocol, provider)


def origin(client: str, client_port: int, service_index: int) -> bytes:
    return ipv4_address(client) + struct.pack("!HH", client_port, service_index)


def probe(type_: int, gateway=3, sequence=0x4D, t_out=0, t_reflect_in=0, t_reflect_out=0, reserved=(0, 0)) -> bytes:
    times = b"".join(t.to_bytes(6, "big") for t in (t_out, t_reflect_in, t_reflect_out))
    return struct.pack("!BBHI", type_, reserved[0], gateway, sequence) + times + struct.pack("!H", reserved[1])


def arp_request(sender_mac: str, sender: str, target: str) -> bytes:
    return struct.pack("!HHBBH", 1, ETHER_IPV4, 6, 4, 1) + mac(sender_mac) + ipv4_address(sender) + bytes(6) + \
        ipv4_address(target)


def steered(src: str, dst: str, src_port: int, dst_port: int, head: bytes, tail: bytes) -> bytes:
    """Two bytes that, put between `head` and `tail`, make the datagram's UDP checksum compute to 0."""
    payload = head + b"\0\0" + tail
    segment = struct.pack("!HHHH", src_port, dst_port, 8 + len(payload), 0) + payload
    return struct.pack("!H", udp_sum(src, dst, segment))
