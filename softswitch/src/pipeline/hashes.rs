//! Hashes that have parameters or a memory: the custom CRCs, Toeplitz, and BMv2's counters in a hash's clothes.

use super::calc::Algo;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

/// Most different inputs that `round_robin_consistent` tells apart; further ones share the last number.
const MAX_INPUTS: usize = 1 << 16;

/// The parameters of a CRC of 8, 16, 32 or 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrcParams {
    /// The polynomial, without its highest bit.
    pub polynomial: u64,
    /// What the remainder starts with.
    pub initial: u64,
    /// What the remainder is combined with at the end.
    pub final_xor: u64,
    /// Each byte is taken lowest bit first.
    pub reflect_data: bool,
    /// The remainder is turned around at the end.
    pub reflect_remainder: bool,
}

/// A CRC with its table.
#[derive(Debug)]
pub(crate) struct Crc {
    width: u32,
    params: CrcParams,
    table: Box<[u64; 256]>,
}

fn ones(width: u32) -> u64 {
    u64::MAX >> (64 - width)
}

impl Crc {
    pub(crate) fn new(width: u32, params: CrcParams) -> Self {
        let table = std::array::from_fn(|byte| {
            let step = |r: u64| if r >> (width - 1) & 1 != 0 { r << 1 ^ params.polynomial } else { r << 1 };
            (0..8).fold((byte as u64) << (width - 8), |r, _| step(r) & ones(width))
        });
        Self { width, params, table: Box::new(table) }
    }

    /// The CRC of a buffer.
    pub(crate) fn over(&self, buf: &[u8]) -> u64 {
        let p = &self.params;
        let remainder = buf.iter().fold(p.initial & ones(self.width), |r, b| {
            let byte = if p.reflect_data { b.reverse_bits() } else { *b };
            let top = (r >> (self.width - 8)) as u8;
            (self.table[usize::from(byte ^ top)] ^ r << 8) & ones(self.width)
        });
        let out = if p.reflect_remainder { remainder.reverse_bits() >> (64 - self.width) } else { remainder };
        (out ^ p.final_xor) & ones(self.width)
    }
}

/// What a running switch keeps for one calculation.
#[derive(Debug)]
pub(crate) enum State {
    /// It depends on its input only.
    None,
    Crc(RwLock<Crc>),
    /// The key, in words.
    Toeplitz(RwLock<Vec<u32>>),
    /// Calls so far.
    Counter(AtomicU64),
    /// The number of each input so far.
    Inputs(Mutex<HashMap<Box<[u8]>, u64>>),
}

impl State {
    /// The state that a calculation starts with (BMv2's defaults).
    pub(crate) fn new(algo: Algo) -> Self {
        let crc = |width, polynomial, initial, final_xor, reflect| {
            let params =
                CrcParams { polynomial, initial, final_xor, reflect_data: reflect, reflect_remainder: reflect };
            Self::Crc(RwLock::new(Crc::new(width, params)))
        };
        match algo {
            Algo::Crc8Custom => crc(8, 0x07, 0, 0, false),
            Algo::Crc16Custom => crc(16, 0x8005, 0, 0, true),
            Algo::Crc32Custom => crc(32, 0x04c1_1db7, 0xffff_ffff, 0xffff_ffff, true),
            Algo::Crc64Custom => crc(64, 0x1b, 0, 0, true),
            Algo::Toeplitz => Self::Toeplitz(RwLock::new(vec![0])),
            Algo::RoundRobin => Self::Counter(AtomicU64::new(0)),
            Algo::RoundRobinConsistent => Self::Inputs(Mutex::new(HashMap::new())),
            _ => Self::None,
        }
    }

    /// The value over a buffer; `None` if it depends on the buffer only.
    pub(crate) fn over(&self, buf: &[u8]) -> Option<u64> {
        Some(match self {
            Self::None => return None,
            Self::Crc(crc) => crc.read().unwrap_or_else(PoisonError::into_inner).over(buf),
            Self::Toeplitz(key) => toeplitz(&key.read().unwrap_or_else(PoisonError::into_inner), buf),
            Self::Counter(n) => n.fetch_add(1, Ordering::Relaxed),
            Self::Inputs(seen) => {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                let next = seen.len() as u64;
                match seen.get(buf) {
                    Some(n) => *n,
                    None if seen.len() >= MAX_INPUTS => next,
                    None => *seen.entry(buf.into()).or_insert(next),
                }
            }
        })
    }

    /// Gives a custom CRC other parameters. False if it is none, or they do not fit its width.
    pub(crate) fn set_crc(&self, params: CrcParams) -> bool {
        let Self::Crc(crc) = self else { return false };
        let mut crc = crc.write().unwrap_or_else(PoisonError::into_inner);
        let fits = [params.polynomial, params.initial, params.final_xor].iter().all(|v| *v <= ones(crc.width));
        if fits {
            *crc = Crc::new(crc.width, params);
        }
        fits
    }

    /// Gives a Toeplitz hash another key. False if it is none, or the key is not one or more words of four bytes.
    pub(crate) fn set_key(&self, key: &[u8]) -> bool {
        let Self::Toeplitz(words) = self else { return false };
        let (new, rest) = key.as_chunks::<4>();
        let fits = !new.is_empty() && rest.is_empty();
        if fits {
            *words.write().unwrap_or_else(PoisonError::into_inner) =
                new.iter().map(|w| u32::from_be_bytes(*w)).collect();
        }
        fits
    }
}

/// The Toeplitz hash; a key that is too short is used again from its start.
fn toeplitz(key: &[u32], buf: &[u8]) -> u64 {
    let word = |i: usize| u64::from(key[i % key.len()]);
    let mut out = 0;
    for (i, chunk) in buf.chunks(4).enumerate() {
        let input = (0..4).fold(0u32, |v, n| v << 8 | u32::from(chunk.get(n).copied().unwrap_or(0)));
        let window = word(i) << 32 | word(i + 1);
        for bit in (0..32).filter(|bit| input >> (31 - bit) & 1 != 0) {
            out ^= (window << bit >> 32) as u32;
        }
    }
    u64::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(algo: Algo, buf: &[u8]) -> u64 {
        State::new(algo).over(buf).unwrap_or(0)
    }

    #[test]
    fn the_custom_crcs_start_as_bmv2s_do() {
        let check = b"123456789";
        assert_eq!(over(Algo::Crc8Custom, check), 0xf4);
        assert_eq!(over(Algo::Crc16Custom, check), 0xbb3d);
        assert_eq!(over(Algo::Crc32Custom, check), 0xcbf4_3926);
    }

    #[test]
    fn a_custom_crc_takes_other_parameters() {
        let state = State::new(Algo::Crc16Custom);
        let xmodem =
            CrcParams { polynomial: 0x1021, initial: 0, final_xor: 0, reflect_data: false, reflect_remainder: false };
        assert!(state.set_crc(xmodem));
        assert_eq!(state.over(b"123456789"), Some(0x31c3));
        assert!(!state.set_crc(CrcParams { polynomial: 0x1_1021, ..xmodem }), "a polynomial of 17 bits");
        let crc64 = State::new(Algo::Crc64Custom);
        let ecma = CrcParams { polynomial: 0x42f0_e1eb_a9ea_3693, ..xmodem };
        assert!(crc64.set_crc(ecma));
        assert_eq!(crc64.over(b"123456789"), Some(0x6c40_df5f_0b49_7347));
    }

    #[test]
    fn toeplitz_gives_the_published_values() {
        // The verification suite of receive side scaling: addresses and ports of IPv4.
        let key = [
            0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca,
            0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b,
            0xbe, 0xac, 0x01, 0xfa,
        ];
        let state = State::new(Algo::Toeplitz);
        assert!(state.set_key(&key) && !state.set_key(&key[..5]) && !state.set_key(&[]));
        let input = [66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6];
        assert_eq!(state.over(&input), Some(0x51cc_c178));
    }

    #[test]
    fn round_robin_counts_and_remembers() {
        let counter = State::new(Algo::RoundRobin);
        assert_eq!([counter.over(b"x"), counter.over(b"x")], [Some(0), Some(1)]);
        let inputs = State::new(Algo::RoundRobinConsistent);
        let all = [&b"a"[..], b"b", b"a", b"c"].map(|b| inputs.over(b));
        assert_eq!(all, [Some(0), Some(1), Some(0), Some(2)]);
    }
}
