"""Processes of our own: a network namespace with veth pairs in it (as root, or in a user namespace without), and no orphans."""

import ctypes
import os
import signal
import socket
import struct

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1

RTM_NEWLINK = 16
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400
NLMSG_ERROR = 2
IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO = 3, 4, 18
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
VETH_INFO_PEER = 1
IFF_UP = 0x1


def die_with_parent():
    """Called in a new process: it is killed when the one that started it ends, however that ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def enter():
    """Moves this process, which must have no other threads yet, into a new network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    flags = CLONE_NEWNET if uid == 0 else CLONE_NEWNET | CLONE_NEWUSER
    if libc.unshare(flags) != 0:
        error = ctypes.get_errno()
        hint = "" if uid == 0 else "; allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, or " \
            "kernel.apparmor_restrict_unprivileged_userns=0), or run as root"
        raise RuntimeError(f"cannot make a network namespace: {os.strerror(error)}{hint}")
    if uid != 0:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)


def _attribute(kind: int, payload: bytes) -> bytes:
    length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + bytes(-length % 4)


def _link_message(index=0, flags=0) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, flags, flags)


def _request(kind: int, flags: int, body: bytes, what: str):
    header = struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | NLM_F_ACK | flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.send(header + body)
        answer = netlink.recv(65536)
    if struct.unpack_from("=H", answer, 4)[0] == NLMSG_ERROR:
        error = -struct.unpack_from("=i", answer, 16)[0]
        if error:
            raise RuntimeError(f"cannot {what}: {os.strerror(error)}")


def set_up(name: str):
    index = socket.if_nametoindex(name)
    _request(RTM_NEWLINK, 0, _link_message(index, IFF_UP), f"set {name} up")


def make_veth(name: str, peer: str, mtu: int):
    """A pair, both ends up, silent: no IPv6 address means no neighbour discovery among the tests' frames."""
    def options(of: str) -> bytes:
        return _attribute(IFLA_IFNAME, of.encode() + b"\0") + _attribute(IFLA_MTU, struct.pack("=I", mtu))

    peer_data = _attribute(VETH_INFO_PEER, _link_message() + options(peer))
    info = _attribute(IFLA_INFO_KIND, b"veth") + _attribute(IFLA_INFO_DATA, peer_data)
    body = _link_message() + options(name) + _attribute(IFLA_LINKINFO, info)
    _request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"make the veth pair {name}, {peer}")
    for end in (name, peer):
        try:
            with open(f"/proc/sys/net/ipv6/conf/{end}/disable_ipv6", "w", encoding="ascii") as file:
                file.write("1")
        except FileNotFoundError:
            pass  # A kernel without IPv6 says nothing either.
        set_up(end)
