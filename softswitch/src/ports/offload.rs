//! What the kernel leaves undone in a frame because the hardware would do it: the checksum, and the VLAN tag.

/// `struct virtio_net_hdr`, which precedes each frame.
pub(super) const VNET_BYTES: usize = 10;
/// The checksum is to be completed.
const VNET_NEEDS_CSUM: u8 = 1;
/// Destination and source, before the tag.
const MAC_ADDRESSES: usize = 12;
/// Type and control information.
pub(super) const VLAN_TAG: usize = 4;

/// Makes the frame behind a virtio header what it was on the wire: sum completed, VLAN tag back in its place.
/// `None` when the kernel's header and the frame do not fit each other.
pub(super) fn restore(bytes: &mut [u8], tag: Option<[u8; VLAN_TAG]>) -> Option<&[u8]> {
    let (vnet, frame) = bytes.split_at_mut_checked(VNET_BYTES)?;
    if vnet[0] & VNET_NEEDS_CSUM != 0 {
        let word = |at: usize| usize::from(u16::from_ne_bytes([vnet[at], vnet[at + 1]]));
        complete_checksum(frame, word(6), word(8))?;
    }
    let Some(tag) = tag else { return Some(&bytes[VNET_BYTES..]) };
    if bytes.len() < VNET_BYTES + MAC_ADDRESSES {
        return None;
    }
    // The addresses move into the virtio header's place, which is spent, and make room for the tag.
    let start = VNET_BYTES - VLAN_TAG;
    bytes.copy_within(VNET_BYTES..VNET_BYTES + MAC_ADDRESSES, start);
    bytes[start + MAC_ADDRESSES..][..VLAN_TAG].copy_from_slice(&tag);
    Some(&bytes[start..])
}

/// Completes a partial sum: the field at `start + offset` holds the pseudo header's sum, and the sum over
/// everything from `start` is what the hardware would have put there.
fn complete_checksum(frame: &mut [u8], start: usize, offset: usize) -> Option<()> {
    let covered = frame.get_mut(start..)?;
    let sum = ones_complement_sum(covered);
    let field = covered.get_mut(offset..offset.checked_add(2)?)?;
    // Zero would say "no checksum" in UDP, and equals 0xFFFF in ones' complement anyway (RFC 768).
    let value = if sum == 0xffff { 0xffff } else { !sum };
    field.copy_from_slice(&value.to_be_bytes());
    Some(())
}

fn ones_complement_sum(bytes: &[u8]) -> u16 {
    let mut words = bytes.chunks_exact(2);
    let mut sum: u64 = words.by_ref().map(|w| u64::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    if let [last] = words.remainder() {
        sum += u64::from(*last) << 8;
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_header(flags: u8, start: u16, offset: u16, frame: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0u8; VNET_BYTES];
        bytes[0] = flags;
        bytes[6..8].copy_from_slice(&start.to_ne_bytes());
        bytes[8..10].copy_from_slice(&offset.to_ne_bytes());
        bytes.extend_from_slice(frame);
        bytes
    }

    #[test]
    fn a_vlan_tag_goes_back_between_the_addresses_and_the_type() {
        let frame: Vec<u8> = (0u8..20).collect();
        let mut bytes = with_header(0, 0, 0, &frame);
        let restored = restore(&mut bytes, Some([0x81, 0x00, 0x20, 0x07])).unwrap();
        assert_eq!(restored[..12], frame[..12]);
        assert_eq!(restored[12..16], [0x81, 0x00, 0x20, 0x07]);
        assert_eq!(restored[16..], frame[12..]);
    }

    #[test]
    fn a_frame_that_needs_nothing_is_left_alone() {
        let frame: Vec<u8> = (0u8..20).collect();
        assert_eq!(restore(&mut with_header(0, 0, 0, &frame), None).unwrap(), frame);
        assert_eq!(restore(&mut with_header(0, 0, 0, &[]), None).unwrap(), [0u8; 0]);
    }

    #[test]
    fn a_partial_udp_sum_is_completed() {
        // UDP 1 -> 2, 9 bytes, payload "x", pseudo header 10.0.0.1 -> 10.0.0.2.
        let pseudo = [10, 0, 0, 1, 10, 0, 0, 2, 0, 17, 0, 9];
        let mut frame = vec![0u8; 34];
        frame.extend_from_slice(&[0, 1, 0, 2, 0, 9]);
        frame.extend_from_slice(&ones_complement_sum(&pseudo).to_be_bytes());
        frame.push(b'x');
        let mut bytes = with_header(VNET_NEEDS_CSUM, 34, 6, &frame);
        let done = restore(&mut bytes, None).unwrap();
        let mut all = pseudo.to_vec();
        all.extend_from_slice(&done[34..]);
        assert_eq!(ones_complement_sum(&all), 0xffff);
    }

    #[test]
    fn a_virtio_header_that_points_outside_the_frame_drops_it() {
        for (start, offset) in [(100, 6), (34, 100), (u16::MAX, u16::MAX), (35, 0)] {
            assert!(restore(&mut with_header(VNET_NEEDS_CSUM, start, offset, &[0; 36]), None).is_none());
        }
        assert!(restore(&mut [0; 5], None).is_none());
        assert!(restore(&mut with_header(0, 0, 0, &[0; 11]), Some([0; 4])).is_none());
    }
}
