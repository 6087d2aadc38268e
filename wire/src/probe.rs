use crate::error::split;
use crate::{GatewayId, WireError};

/// Bytes of a probe header.
pub const PROBE_LEN: usize = 28;

/// Time stamps have 48 bits.
const STAMP_MASK: u64 = (1 << 48) - 1;

/// Which way a probe goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ProbeType {
    /// Away from the origin gateway.
    Request = 1,
    /// Back to it.
    Reply = 2,
}

/// The probe header, after a probe shim (DESIGN §3.3). Times are µs of the stamping switch, 48 bits, and wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Probe {
    /// Request or reply.
    pub probe_type: ProbeType,
    /// The gateway that measures.
    pub origin: GatewayId,
    /// Pairs a reply with its request.
    pub sequence: u32,
    /// When the request left the origin switch.
    pub t_out: u64,
    /// When it reached the reflecting switch.
    pub t_reflect_in: u64,
    /// When the reply left the reflecting switch.
    pub t_reflect_out: u64,
}

impl Probe {
    /// A request whose time stamps the switches fill in.
    pub const fn request(origin: GatewayId, sequence: u32) -> Self {
        Self { probe_type: ProbeType::Request, origin, sequence, t_out: 0, t_reflect_in: 0, t_reflect_out: 0 }
    }

    /// Reads a probe header and returns what follows it; reserved bytes are ignored.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let (h, rest) = split::<PROBE_LEN>("probe header", bytes)?;
        let probe_type = match h[0] {
            1 => ProbeType::Request,
            2 => ProbeType::Reply,
            other => {
                return Err(WireError::Unknown { what: "probe type", value: u32::from(other) });
            }
        };
        let stamp =
            |at: usize| u64::from_be_bytes([0, 0, h[at], h[at + 1], h[at + 2], h[at + 3], h[at + 4], h[at + 5]]);
        let probe = Self {
            probe_type,
            origin: GatewayId(u16::from_be_bytes([h[2], h[3]])),
            sequence: u32::from_be_bytes([h[4], h[5], h[6], h[7]]),
            t_out: stamp(8),
            t_reflect_in: stamp(14),
            t_reflect_out: stamp(20),
        };
        Ok((probe, rest))
    }

    /// Appends the header; time stamps are taken modulo 2⁴⁸.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend([self.probe_type as u8, 0]);
        out.extend(self.origin.0.to_be_bytes());
        out.extend(self.sequence.to_be_bytes());
        for stamp in [self.t_out, self.t_reflect_in, self.t_reflect_out] {
            out.extend(&(stamp & STAMP_MASK).to_be_bytes()[2..]);
        }
        out.extend([0, 0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Shim, ShimKind};
    use proptest::prelude::*;

    /// DESIGN §3, worked bytes of a probe reply.
    #[test]
    fn worked_bytes() {
        let bytes = [
            0x15, 0, 0, 0, 0, 0, 0, 0, // shim
            2, 0, 0, 3, 0, 0, 0, 0x4d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x2c, 0x62, 0x07, 0, 0, 0, 0x2c, 0x62, 0x69, 0, 0,
        ];
        let (shim, rest) = Shim::parse(&bytes).unwrap();
        assert_eq!(shim, Shim::of_no_protocol(ShimKind::Probe));
        let probe = Probe {
            probe_type: ProbeType::Reply,
            origin: GatewayId(3),
            sequence: 77,
            t_out: 0,
            t_reflect_in: 0x2c_6207,
            t_reflect_out: 0x2c_6269,
        };
        assert_eq!(Probe::parse(rest), Ok((probe, &[][..])));
        let mut out = Vec::new();
        shim.emit(&mut out);
        probe.emit(&mut out);
        assert_eq!(out, bytes);
    }

    #[test]
    fn other_types_are_refused() {
        assert_eq!(Probe::parse(&[3; PROBE_LEN]), Err(WireError::Unknown { what: "probe type", value: 3 }));
    }

    proptest! {
        #[test]
        fn probes_survive_the_wire(reply: bool, origin: u16, sequence: u32, a: u64, b: u64, c: u64) {
            let probe = Probe {
                probe_type: if reply { ProbeType::Reply } else { ProbeType::Request },
                origin: GatewayId(origin),
                sequence,
                t_out: a & STAMP_MASK,
                t_reflect_in: b & STAMP_MASK,
                t_reflect_out: c & STAMP_MASK,
            };
            let mut out = Vec::new();
            probe.emit(&mut out);
            prop_assert_eq!(out.len(), PROBE_LEN);
            prop_assert_eq!(Probe::parse(&out), Ok((probe, &[][..])));
        }
    }
}
