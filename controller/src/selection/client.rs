//! The hashes by which the switch spreads packets (`p4src/arch/v1model/objects.p4`), computed here as it does.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::model::RouterIndex;

/// IP protocol number of UDP, which every tunnelled packet has.
const UDP: u8 = 17;
/// Cells of `client_seen` (p4src/include/constants.p4).
const CLIENT_SEEN_CELLS: u32 = 1 << 18;

/// What picks a client's bucket in a set: the low 16 bits of the CRC-32 (IEEE 802.3) of its address (`ClientBucket`). A
/// set has a power of two of buckets and takes as many low bits of it.
pub fn client_hash(client: Ipv4Addr) -> u16 {
    low_16(crc32fast::hash(&client.octets()))
}

/// The cell of `client_seen` in which a switch remembers that a client was at a draining router: the low 18 bits of the
/// CRC-32 of the client's address and the router's index (`ClientPresence`).
pub fn client_cell(client: Ipv4Addr, leaving: RouterIndex) -> u32 {
    let mut both = [0; 8];
    both[..4].copy_from_slice(&client.octets());
    both[4..].copy_from_slice(&leaving.0.to_be_bytes());
    crc32fast::hash(&both) & (CLIENT_SEEN_CELLS - 1)
}

/// What picks the member of an ECMP group for a client's datagram: the low 16 bits of the CRC-32 of the five-tuple as
/// the datagram came in (`FlowHash`).
pub fn flow_hash(client: SocketAddrV4, service: SocketAddrV4) -> u16 {
    let mut tuple = [0; 13];
    tuple[..4].copy_from_slice(&client.ip().octets());
    tuple[4..8].copy_from_slice(&service.ip().octets());
    tuple[8] = UDP;
    tuple[9..11].copy_from_slice(&client.port().to_be_bytes());
    tuple[11..].copy_from_slice(&service.port().to_be_bytes());
    low_16(crc32fast::hash(&tuple))
}

fn low_16(hash: u32) -> u16 {
    (hash & 0xffff) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_low_half_of_zlibs_crc32() {
        // zlib.crc32(b"1234") = 0x9be3e0a3
        assert_eq!(client_hash(Ipv4Addr::new(0x31, 0x32, 0x33, 0x34)), 0xe0a3);
        // zlib.crc32(bytes([10,0,0,1, 198,51,100,1, 17, 0x15,0xb3, 0xc9,0xf4])) = 0xf364dd41
        let (client, service) = ("10.0.0.1:5555".parse().unwrap(), "198.51.100.1:51700".parse().unwrap());
        assert_eq!(flow_hash(client, service), 0xdd41);
        // zlib.crc32(b"12345678") = 0x9ae0daaf
        assert_eq!(client_cell(Ipv4Addr::new(0x31, 0x32, 0x33, 0x34), RouterIndex(0x3536_3738)), 0x0daaf);
        assert_eq!(u64::from(CLIENT_SEEN_CELLS), dmux_tables::registers::CLIENT_SEEN.size);
    }
}
