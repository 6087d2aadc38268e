//! Packet-in and packet-out as frames: the controller's header in front, as the program sees it at the CPU port.

use anyhow::{Result, ensure};
use dmux_p4rt::p4::config::v1::P4Info;
use dmux_p4rt::p4::v1::{PacketIn, PacketMetadata, PacketOut};

/// The fields of both headers: (id, width).
#[derive(Debug, Clone, Default)]
pub struct PacketIo {
    to_controller: Vec<(u32, u32)>,
    from_controller: Vec<(u32, u32)>,
    digests: bool,
}

impl PacketIo {
    /// What a P4Info describes.
    pub fn new(info: &P4Info) -> Self {
        let fields = |name: &str| {
            let header =
                info.controller_packet_metadata.iter().find(|h| h.preamble.as_ref().is_some_and(|p| p.name == name));
            header.map_or_else(Vec::new, |h| h.metadata.iter().map(|m| (m.id, m.bitwidth.unsigned_abs())).collect())
        };
        Self {
            to_controller: fields("packet_in"),
            from_controller: fields("packet_out"),
            digests: !info.digests.is_empty(),
        }
    }

    /// Whether the program talks to the controller at all.
    pub fn any(&self) -> bool {
        self.digests || !self.to_controller.is_empty() || !self.from_controller.is_empty()
    }

    /// A frame that enters at the CPU port.
    pub fn packet_out(&self, frame: &[u8]) -> Result<PacketOut> {
        let bits: u32 = self.from_controller.iter().map(|f| f.1).sum();
        let header = bits.div_ceil(8) as usize;
        ensure!(frame.len() >= header, "it is shorter than the header of a packet-out ({header} bytes)");
        let mut at = 0;
        let metadata = self.from_controller.iter().map(|(id, width)| {
            let bits = (at..at + *width as usize).map(|bit| frame[bit / 8] >> (7 - bit % 8) & 1 == 1);
            at += *width as usize;
            PacketMetadata { metadata_id: *id, value: bytes(bits) }
        });
        let metadata = metadata.collect();
        Ok(PacketOut { payload: frame[header..].to_vec().into(), metadata })
    }

    /// The frame that left at the CPU port.
    pub fn frame(&self, packet: &PacketIn) -> Vec<u8> {
        let mut bits = Vec::new();
        for (id, width) in &self.to_controller {
            let value = packet.metadata.iter().find(|m| m.metadata_id == *id).map_or(&[][..], |m| &m.value);
            bits.extend((0..*width as usize).rev().map(|bit| {
                let from_end = bit / 8;
                from_end < value.len() && value[value.len() - 1 - from_end] >> (bit % 8) & 1 == 1
            }));
        }
        let mut frame: Vec<u8> = bits.chunks(8).map(|b| b.iter().fold(0, |n, bit| n << 1 | u8::from(*bit))).collect();
        frame.extend_from_slice(&packet.payload);
        frame
    }
}

/// Bits, most significant first, as a canonical number.
fn bytes(bits: impl ExactSizeIterator<Item = bool>) -> Vec<u8> {
    let mut number = vec![0; bits.len().div_ceil(8)];
    let skip = number.len() * 8 - bits.len();
    for (at, bit) in bits.enumerate() {
        number[(at + skip) / 8] |= u8::from(bit) << (7 - (at + skip) % 8);
    }
    dmux_p4rt::bytestring::canonical(&number).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_do_not_fill_bytes_are_packed_in_order() {
        let io =
            PacketIo { to_controller: vec![(1, 9), (2, 7)], from_controller: vec![(1, 9), (2, 7)], digests: false };
        let out = io.packet_out(b"\xff\x85xyz").unwrap();
        let field = |metadata_id, value: &[u8]| PacketMetadata { metadata_id, value: value.to_vec() };
        assert_eq!(out.metadata, [field(1, &[1, 0xff]), field(2, &[5])]);
        assert_eq!(&out.payload[..], b"xyz");
        let back = io.frame(&PacketIn { payload: out.payload, metadata: out.metadata });
        assert_eq!(back, b"\xff\x85xyz");
        assert!(io.packet_out(b"\xff").is_err());
    }
}
