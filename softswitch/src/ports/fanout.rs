//! One interface for several workers: the kernel deals its frames out to their sockets by addresses.
//!
//! The choice is a function of the two IP addresses alone, so every frame of a flow, its fragments included, goes to
//! the same worker, and so do both directions. What is not IP goes to the first one.

use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};

use super::PortError;
use super::packet::set_option;

// linux/if_packet.h, linux/filter.h and linux/if_ether.h; the libc crate does not have all of them.
const PACKET_FANOUT: libc::c_int = 18;
const PACKET_FANOUT_DATA: libc::c_int = 22;
const PACKET_FANOUT_CBPF: u32 = 6;
const PACKET_FANOUT_FLAG_UNIQUEID: u32 = 0x2000;
const AD_PROTOCOL: u32 = 0xffff_f000;
const NETWORK_HEADER: u32 = 0xfff0_0000;
const ETHERTYPE_IPV4: u32 = 0x0800;
const ETHERTYPE_IPV6: u32 = 0x86dd;

const LOAD: u16 = 0x20;
const ADD_X: u16 = 0x0c;
const MULTIPLY: u16 = 0x24;
const SHIFT_RIGHT: u16 = 0x74;
const TO_X: u16 = 0x07;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN_A: u16 = 0x16;
const RETURN: u16 = 0x06;

/// Lets a socket take no frame until it is one of a group: it would get each of them, not its share. To be called
/// before it is bound.
pub(super) fn close(socket: &OwnedFd) -> Result<(), std::io::Error> {
    attach(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &mut [op(RETURN, 0, 0, 0)])
}

fn op(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

fn attach(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    code: &mut [libc::sock_filter],
) -> Result<(), std::io::Error> {
    // A few instructions.
    let program = libc::sock_fprog { len: code.len() as u16, filter: code.as_mut_ptr() };
    set_option(socket, level, option, &program)
}

/// Sums the addresses and mixes the sum; the kernel takes the result modulo the number of sockets.
fn by_addresses() -> Vec<libc::sock_filter> {
    let add = |words: std::ops::Range<u32>| {
        let mut code = Vec::new();
        for (n, at) in words.step_by(4).enumerate() {
            code.push(op(LOAD, 0, 0, NETWORK_HEADER + at));
            if n > 0 {
                code.push(op(ADD_X, 0, 0, 0));
            }
            code.push(op(TO_X, 0, 0, 0));
        }
        // The golden ratio, as Knuth multiplies; the upper half is the well-mixed one.
        code.extend([op(MULTIPLY, 0, 0, 0x9e37_79b1), op(SHIFT_RIGHT, 0, 0, 16), op(RETURN_A, 0, 0, 0)]);
        code
    };
    let (four, six) = (add(12..20), add(8..40));
    // Two jumps over the parts: both are far shorter than the 255 that a jump can reach.
    let mut code = vec![
        op(LOAD, 0, 0, AD_PROTOCOL),
        op(JUMP_IF_EQUAL, 2, 0, ETHERTYPE_IPV4),
        op(JUMP_IF_EQUAL, 1 + four.len() as u8, 0, ETHERTYPE_IPV6),
        op(RETURN, 0, 0, 0),
    ];
    code.extend(four);
    code.extend(six);
    code
}

/// Makes bound, closed sockets one group and opens them.
pub(super) fn join(interface: &str, sockets: &[&OwnedFd]) -> Result<(), PortError> {
    let fail = |source| {
        PortError::io(format!("interface {interface}: its frames cannot be dealt out to several workers"), source)
    };
    let mut group = (PACKET_FANOUT_CBPF | PACKET_FANOUT_FLAG_UNIQUEID) << 16;
    for (n, socket) in sockets.iter().enumerate() {
        set_option(socket, libc::SOL_PACKET, PACKET_FANOUT, &group).map_err(fail)?;
        if n == 0 {
            group = (PACKET_FANOUT_CBPF << 16) | (group_of(socket).map_err(fail)? & 0xffff);
            attach(socket, libc::SOL_PACKET, PACKET_FANOUT_DATA, &mut by_addresses()).map_err(fail)?;
        }
    }
    for socket in sockets {
        let nothing: libc::c_int = 0;
        set_option(socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &nothing).map_err(fail)?;
    }
    Ok(())
}

fn group_of(socket: &OwnedFd) -> Result<u32, std::io::Error> {
    let mut group = 0u32;
    let mut length = mem::size_of::<u32>() as libc::socklen_t;
    // SAFETY: both point at live integers of the lengths given.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_PACKET, PACKET_FANOUT, (&raw mut group).cast(), &raw mut length)
    };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(group) }
}
