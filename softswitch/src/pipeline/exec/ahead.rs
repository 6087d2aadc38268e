//! Looking ahead: a lookup in a table of a million entries waits for memory twice (the cell of the hash table, then the
//! record), each time longer than all the rest of a packet takes. Frames that wait behind the present one are therefore
//! looked at early, and the processor is asked for the memory that they will need.
//!
//! ```text
//!   frame  n            n+4                  n+8
//!       processed   its record asked for   its cell asked for
//! ```
//! Where a key is in a frame is guessed to be where it was in the first frame of the batch, or at its beginning in that of
//! the batch before. A wrong guess costs the few
//! nanoseconds that it took, and changes nothing: only the cache sees it.

use super::super::layout::{Header, Slot};
use super::super::ops::KeyPart;
use super::super::program::Program;
use super::super::tables::{Dataplane, Packing, Side};
use super::scratch::table_bit;
use super::slots::Slots;

/// How many frames before its turn a frame is shown to [`Batch::coming`](super::Batch::coming).
pub const AHEAD: usize = 8;
/// The present frame and those that were shown.
const ROOM: usize = (AHEAD + 1).next_power_of_two();
/// How many frames before its turn a frame's records are asked for.
const RECORD: usize = 4;
/// Tables that are looked at for each frame.
const MAX_TABLES: usize = 4;
/// Bits of a key that are read in one piece: eight bytes hold them, wherever they start.
const PIECE: u32 = 56;

/// A few bits of a key, in a header.
struct Piece {
    /// Slot with the header's place in the frame, plus 1.
    origin: Slot,
    /// Offset from the header's start.
    bit: u32,
    width: u32,
    /// Bits that count.
    mask: u64,
    /// Bit position in the packed key.
    pos: u32,
}

/// A table whose key is in the headers of a packet.
struct Known {
    table: usize,
    pieces: Vec<Piece>,
}

/// A piece, found in frames like the last one.
struct Spot {
    byte: usize,
    shift: u32,
    mask: u64,
    pos: u32,
}

struct Guess {
    table: usize,
    spots: Vec<Spot>,
}

/// What one worker sees coming.
#[derive(Default)]
pub(super) struct Ahead {
    known: Vec<Known>,
    guesses: Vec<Guess>,
    /// Hashes of frames to come, by their number in the batch.
    hashes: [[u64; MAX_TABLES]; ROOM],
    /// Frames that were shown, of which the records were asked for, and that were processed in this batch.
    shown: usize,
    asked: usize,
    processed: usize,
    /// The first packet of the batch has been learnt from.
    learnt: bool,
}

impl Ahead {
    /// For a program: its tables with exact keys that headers hold.
    pub(super) fn new(p: &Program) -> Self {
        let tables = p.tables.iter().zip(&p.table_rt).enumerate();
        let known = tables.filter_map(|(table, (info, rt))| {
            let packing = Packing::of(info, &rt.key);
            let fits = (1..=2).contains(&packing.words) && packing.ranges.is_empty();
            let pieces = fits.then(|| pieces(p, &packing.packed)).flatten()?;
            Some(Known { table, pieces })
        });
        Self { known: known.collect(), ..Self::default() }
    }

    /// Begins a batch: until its first packet has been learnt from, what the one before it has shown must do.
    #[inline]
    pub(super) fn begin(&mut self) {
        (self.shown, self.asked, self.processed) = (0, 0, 0);
        self.learnt = self.known.is_empty();
    }

    /// Whether the packet that was just processed is to be learnt from: it was the first of several.
    #[inline]
    pub(super) fn is_curious(&self) -> bool {
        !self.learnt && self.shown > 1
    }

    /// Learns from the first packet of the batch: `s` is what it left behind, `applied` has the bits of the tables that it was
    /// looked up in.
    pub(super) fn learn(&mut self, side: &Side, applied: u64, s: Slots<'_>) {
        self.learnt = true;
        self.guesses.clear();
        let worth = |k: &&Known| applied & table_bit(k.table) != 0 && side.is_slow(k.table);
        for known in self.known.iter().filter(worth).take(MAX_TABLES) {
            let spot = |piece: &Piece| {
                let header = (s.get(piece.origin) as usize).checked_sub(1)?;
                let bit = header * 8 + piece.bit as usize;
                let shift = 64 - (bit % 8) as u32 - piece.width;
                Some(Spot { byte: bit / 8, shift, mask: piece.mask, pos: piece.pos })
            };
            if let Some(spots) = known.pieces.iter().map(spot).collect() {
                self.guesses.push(Guess { table: known.table, spots });
            }
        }
    }

    /// Takes note of a frame to come, and asks for its cells if that is worth while.
    #[inline]
    pub(super) fn coming(&mut self, side: &Side, frame: &[u8]) {
        if !self.guesses.is_empty() && self.shown - self.processed < ROOM {
            self.look(side, frame);
        }
        self.shown += 1;
    }

    fn look(&mut self, side: &Side, frame: &[u8]) {
        let hashes = &mut self.hashes[self.shown % ROOM];
        for (guess, hash) in self.guesses.iter().zip(hashes) {
            *hash = guess.key(frame).and_then(|key| side.ask_for_cell(guess.table, key)).unwrap_or(0);
        }
    }

    /// Asks for the records of frames to come. Called once for each frame that is processed.
    #[inline]
    pub(super) fn next(&mut self, dp: &Dataplane, side: &Side) {
        if self.shown > self.processed {
            if !self.guesses.is_empty() {
                self.ask(dp, side);
            }
            self.processed += 1;
        }
    }

    fn ask(&mut self, dp: &Dataplane, side: &Side) {
        self.asked = self.asked.max(self.processed);
        let until = self.shown.min(self.processed + RECORD + 1);
        while self.asked < until {
            let hashes = &self.hashes[self.asked % ROOM];
            for (guess, hash) in self.guesses.iter().zip(hashes) {
                side.ask_for_record(dp, guess.table, *hash);
            }
            self.asked += 1;
        }
    }
}

impl Guess {
    /// The packed key, if the frame is long enough to have one.
    #[inline]
    fn key(&self, frame: &[u8]) -> Option<[u64; 2]> {
        let mut key = 0u128;
        for spot in &self.spots {
            let rest = frame.get(spot.byte..)?;
            let bytes = match rest.first_chunk::<8>() {
                Some(bytes) => *bytes,
                None => {
                    let mut bytes = [0; 8];
                    bytes[..rest.len()].copy_from_slice(rest);
                    bytes
                }
            };
            key |= u128::from(u64::from_be_bytes(bytes) >> spot.shift & spot.mask) << spot.pos;
        }
        Some([key as u64, (key >> 64) as u64])
    }
}

/// The pieces of a key; `None` if not all of it is in headers.
fn pieces(p: &Program, parts: &[KeyPart]) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    for part in parts {
        let (header, bit) = p.headers.iter().find_map(|h| Some((h, place(h, part)?)))?;
        let mut low = 0;
        while low < part.width {
            let width = PIECE.min(part.width - low);
            let mask = (part.mask >> low) as u64 & (u64::MAX >> (64 - width));
            let bit = bit + part.width - low - width;
            pieces.push(Piece { origin: header.origin, bit, width, mask, pos: part.pos + low });
            low += width;
        }
    }
    Some(pieces)
}

/// Where in the header the field of a key is.
fn place(h: &Header, part: &KeyPart) -> Option<u32> {
    let before = h.varbit.map_or(h.fields.len(), |v| v.before);
    let fields = if h.metadata { &[] } else { h.fields.get(..before)? };
    fields.iter().find(|f| f.slot == part.slot && f.width == part.width).map(|f| f.bit_offset)
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::{ActionCall, EntrySpec, MatchValue};
    use super::super::super::tables::Clock;
    use super::super::{Batch, Worker};
    use super::*;
    use std::sync::Arc;

    struct Still;

    impl Clock for Still {
        fn now_us(&self) -> u64 {
            0
        }
    }

    /// Enough for lookups to wait for memory.
    const ENTRIES: u32 = 40_000;

    /// A table of one field of 32 bits, and one of 32 and 16, both large.
    fn large() -> Dataplane {
        let json = include_bytes!("../../../tests/programs/match_kinds.json");
        let mut json: serde_json::Value = serde_json::from_slice(json).unwrap();
        for table in
            json["pipelines"].as_array_mut().unwrap().iter_mut().flat_map(|p| p["tables"].as_array_mut().unwrap())
        {
            table["max_size"] = 65_536.into();
        }
        let program = Program::compile(&serde_json::to_vec(&json).unwrap()).unwrap();
        let dp = Dataplane::new(program, Arc::new(Still));
        for (name, fields) in [("IngressPipe.exact_one", 1), ("IngressPipe.exact_two", 2)] {
            let table = dp.program().table_by_name(name).unwrap();
            let action = dp.program().tables()[table.0].actions[0];
            dp.write(|txn| {
                (0..ENTRIES).try_for_each(|n| {
                    let key = [MatchValue::Exact(u128::from(n * 7)), MatchValue::Exact(u128::from(n as u16))];
                    let action = ActionCall { action, args: vec![u128::from(n % 251)] };
                    txn.insert(table, &EntrySpec { key: key[..fields].to_vec(), priority: 0, action })
                })
            })
            .unwrap();
        }
        dp
    }

    fn frame(which: u8, n: u32) -> Vec<u8> {
        let mut frame = vec![which, 0];
        frame.extend_from_slice(&(n * 7).to_be_bytes());
        frame.extend_from_slice(&[0, 0]);
        frame.extend_from_slice(&(n as u16).to_be_bytes());
        frame
    }

    /// What the entry that the frame will find is guessed to be, by table.
    fn guessed(batch: &Batch<'_, '_>, frame: &[u8]) -> Vec<Option<u32>> {
        let guesses = &batch.worker.ahead.guesses;
        let entry = |g: &Guess| batch.side.likely(g.table, g.key(frame)?);
        guesses.iter().map(entry).collect()
    }

    #[test]
    fn the_key_of_a_frame_to_come_is_where_it_was_in_the_first_one() {
        let dp = large();
        let mut worker = Worker::new(&dp);
        for which in [1, 2] {
            let frame = |n| frame(which, n);
            let mut batch = worker.batch(&dp);
            batch.coming(&frame(5));
            batch.coming(&frame(6));
            let known = guessed(&batch, &frame(5));
            assert_eq!(known.len(), usize::from(which > 1), "before the first packet, what the last batch has shown");
            batch.process(1, &frame(5), 0, &mut |_, _| {});
            for n in [0, 1, 77, ENTRIES - 1] {
                let found = guessed(&batch, &frame(n));
                // The table that the packet was not looked up in is none of those.
                assert!(matches!(found[..], [Some(_)]), "{n}: {found:?}");
            }
            assert_eq!(guessed(&batch, &frame(ENTRIES)), [None]);
            let mut other = frame(9);
            other[9] ^= 1;
            assert_eq!(guessed(&batch, &other)[0].is_some(), which == 1, "only the second table looks there");
            assert_eq!(guessed(&batch, &[which]), [None], "a frame that ends too soon");
        }
        let mut worker = Worker::new(&dp);
        let mut batch = worker.batch(&dp);
        batch.coming(&frame(1, 5));
        batch.process(1, &frame(1, 5), 0, &mut |_, _| {});
        assert_eq!(guessed(&batch, &frame(1, 5)), [], "there is nothing to learn for");
    }

    /// Frames that are shown right, wrong, too many at once, and not at all.
    #[test]
    fn what_is_shown_changes_nothing() {
        let dp = large();
        let frames: Vec<_> = (0..400u32).map(|n| frame((n % 4) as u8, n * 317 % (ENTRIES + 9000))).collect();
        let (mut plain, mut looking) = (Worker::new(&dp), Worker::new(&dp));
        for (number, chunk) in frames.chunks(25).enumerate() {
            let mut batch = looking.batch(&dp);
            chunk.iter().take(number * 3).for_each(|f| batch.coming(&f[..f.len().min(number)]));
            for (n, frame) in chunk.iter().enumerate() {
                if number % 3 != 0 {
                    chunk.iter().skip(n + AHEAD).take(number % 4).for_each(|f| batch.coming(f));
                }
                let (mut expected, mut out) = (Vec::new(), Vec::new());
                plain.process(&dp, 1, frame, 0, &mut |port, f| expected.push((port, f.to_vec())));
                batch.process(1, frame, 0, &mut |port, f| out.push((port, f.to_vec())));
                assert_eq!(out, expected);
            }
            // The first frame of a chunk is one that is looked up in a large table, or not.
            let looking = !batch.worker.ahead.guesses.is_empty();
            assert_eq!(looking, number > 0 && matches!(chunk[0][0], 1 | 2), "chunk {number}");
        }
        assert_eq!(looking.stats(), plain.stats());
    }
}
