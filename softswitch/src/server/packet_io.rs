//! Packet-in and packet-out: specification 1.4, section 16.1.
//!
//! A P4Info may describe one header for each direction. On the wire at the CPU port it stands in front of the
//! frame, fields packed in order; in P4Runtime it is a list of metadata values.

use bytes::Bytes;
use dmux_p4rt::p4::config::v1::ControllerPacketMetadata;
use dmux_p4rt::p4::v1::PacketMetadata;

use super::error::Refused;
use super::value;

/// The widest metadata field that is understood.
const MAX_FIELD_BITS: u32 = 128;

/// One field of a controller header.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    id: u32,
    name: String,
    width: u32,
}

/// A controller header: how `packet_in` or `packet_out` is laid out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PacketHeader {
    fields: Vec<Field>,
    bytes: usize,
}

impl PacketHeader {
    /// The layout that a P4Info describes.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for fields without a width or wider than 128 bits, repeated ids, and headers that are
    /// not whole bytes.
    pub fn new(described: &ControllerPacketMetadata) -> Result<Self, Refused> {
        let header = described.preamble.as_ref().map_or("", |p| p.name.as_str());
        let mut fields: Vec<Field> = Vec::with_capacity(described.metadata.len());
        for metadata in &described.metadata {
            let width = u32::try_from(metadata.bitwidth).ok().filter(|w| (1..=MAX_FIELD_BITS).contains(w));
            let Some(width) = width else {
                return Err(Refused::invalid(format!(
                    "the P4Info's {header} field \"{}\" has {} bits; 1 to {MAX_FIELD_BITS} are supported",
                    metadata.name, metadata.bitwidth
                )));
            };
            if fields.iter().any(|f| f.id == metadata.id) {
                return Err(Refused::invalid(format!("the P4Info's {header} has two fields with id {}", metadata.id)));
            }
            fields.push(Field { id: metadata.id, name: metadata.name.clone(), width });
        }
        let bits: usize = fields.iter().map(|f| f.width as usize).sum();
        if !bits.is_multiple_of(8) {
            return Err(Refused::invalid(format!(
                "the P4Info's {header} has {bits} bits, which is not a number of whole bytes"
            )));
        }
        Ok(Self { fields, bytes: bits / 8 })
    }

    /// The header's length.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether the header has no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Puts the header in front of a packet-out's payload.
    ///
    /// # Errors
    /// INVALID_ARGUMENT unless each field is given exactly once, OUT_OF_RANGE for a value that does not fit.
    pub fn frame(&self, metadata: &[PacketMetadata], payload: &[u8]) -> Result<Vec<u8>, Refused> {
        if let Some(unknown) = metadata.iter().find(|m| self.fields.iter().all(|f| f.id != m.metadata_id)) {
            return Err(Refused::invalid(format!("packet_out has no metadata field with id {}", unknown.metadata_id)));
        }
        let mut frame = Vec::with_capacity(self.bytes + payload.len());
        frame.resize(self.bytes, 0);
        let mut bit = 0;
        for field in &self.fields {
            let mut given = metadata.iter().filter(|m| m.metadata_id == field.id);
            let (Some(one), None) = (given.next(), given.next()) else {
                return Err(Refused::invalid(format!(
                    "packet_out needs the metadata field \"{}\" (id {}) exactly once",
                    field.name, field.id
                )));
            };
            let value = value::decode(&one.value, field.width, || format!("packet_out field \"{}\"", field.name))?;
            put_bits(&mut frame, bit, field.width, value);
            bit += field.width as usize;
        }
        frame.extend_from_slice(payload);
        Ok(frame)
    }

    /// Takes the header off a frame that left at the CPU port; `None` when the frame is shorter than it.
    #[must_use]
    pub fn split(&self, mut frame: Bytes) -> Option<(Vec<PacketMetadata>, Bytes)> {
        if frame.len() < self.bytes {
            return None;
        }
        let header = frame.split_to(self.bytes);
        let mut bit = 0;
        let metadata = self.fields.iter().map(|field| {
            let value = get_bits(&header, bit, field.width);
            bit += field.width as usize;
            PacketMetadata { metadata_id: field.id, value: value::encode(value) }
        });
        Some((metadata.collect(), frame))
    }
}

/// Writes `width` bits from bit `start`, most significant first, into zeroed bytes.
fn put_bits(bytes: &mut [u8], start: usize, width: u32, value: u128) {
    for i in 0..width as usize {
        let bit = (value >> (width as usize - 1 - i)) as u8 & 1;
        let at = start + i;
        bytes[at / 8] |= bit << (7 - at % 8);
    }
}

fn get_bits(bytes: &[u8], start: usize, width: u32) -> u128 {
    (start..start + width as usize).fold(0, |value, at| value << 1 | u128::from(bytes[at / 8] >> (7 - at % 8) & 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dmux_p4rt::p4::config::v1::controller_packet_metadata::Metadata;
    use proptest::prelude::*;
    use tonic::Code;

    fn header(widths: &[i32]) -> Result<PacketHeader, Refused> {
        let metadata = |(i, width): (usize, &i32)| Metadata {
            id: i as u32 + 1,
            name: format!("f{}", i + 1),
            bitwidth: *width,
            ..Metadata::default()
        };
        PacketHeader::new(&ControllerPacketMetadata {
            metadata: widths.iter().enumerate().map(metadata).collect(),
            ..ControllerPacketMetadata::default()
        })
    }

    fn value(id: u32, bytes: &[u8]) -> PacketMetadata {
        PacketMetadata { metadata_id: id, value: bytes.to_vec() }
    }

    #[test]
    fn fields_that_are_not_whole_bytes_are_packed_in_order() {
        let frame = header(&[9, 7]).unwrap().frame(&[value(2, b"\x05"), value(1, b"\x01\xff")], b"xyz").unwrap();
        assert_eq!(frame, b"\xff\x85xyz");
    }

    #[test]
    fn a_missing_unknown_repeated_or_oversized_field_is_refused_by_name() {
        let header = header(&[9, 7]).unwrap();
        let refused = |metadata: &[PacketMetadata]| header.frame(metadata, b"").unwrap_err();
        assert!(refused(&[value(1, b"\x01")]).message.contains("f2"));
        assert!(refused(&[value(1, b"\x01"), value(2, b"\x01"), value(3, b"\x01")]).message.contains("id 3"));
        assert!(refused(&[value(1, b"\x01"), value(2, b"\x01"), value(2, b"\x01")]).message.contains("exactly once"));
        assert_eq!(refused(&[value(1, b"\x02\x00"), value(2, b"\x01")]).code, Code::OutOfRange);
        assert_eq!(refused(&[value(1, b""), value(2, b"\x01")]).code, Code::OutOfRange);
    }

    #[test]
    fn a_description_that_cannot_be_a_header_is_refused() {
        for widths in [&[9][..], &[0, 8], &[136], &[-8]] {
            assert_eq!(header(widths).unwrap_err().code, Code::InvalidArgument);
        }
    }

    #[test]
    fn a_frame_shorter_than_the_header_is_nothing() {
        assert!(header(&[16, 8]).unwrap().split(Bytes::from_static(b"ab")).is_none());
    }

    proptest! {
        #[test]
        fn splitting_undoes_framing(
            widths in proptest::collection::vec(1i32..=128, 0..6), seed: u128, payload: Vec<u8>,
        ) {
            let mut widths = widths;
            let rest = widths.iter().sum::<i32>() % 8;
            if rest != 0 {
                widths.push(8 - rest);
            }
            let header = header(&widths).unwrap();
            let metadata: Vec<_> = widths.iter().enumerate().map(|(i, width)| {
                let some = seed.rotate_left(i as u32 * 13) & value::all_ones(*width as u32);
                PacketMetadata { metadata_id: i as u32 + 1, value: value::encode(some) }
            }).collect();
            let frame = header.frame(&metadata, &payload).unwrap();
            prop_assert_eq!(frame.len(), header.len() + payload.len());
            let (again, rest) = header.split(frame.into()).unwrap();
            prop_assert_eq!(again, metadata);
            prop_assert_eq!(rest, payload);
        }
    }
}
