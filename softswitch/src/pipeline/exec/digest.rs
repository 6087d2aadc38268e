//! Samples for digests.

use super::super::info::Member;
use super::machine::Machine;

impl Machine<'_, '_> {
    /// Hands the sample of the digest that was asked for to the control plane.
    #[inline(never)]
    pub(super) fn learn(&mut self) {
        let asked = self.p.asked.learn.map_or(0, |s| self.s.get(s)) as usize;
        let Some((ix, list)) = asked.checked_sub(1).and_then(|ix| Some((ix, self.p.learn_lists.get(ix)?))) else {
            return;
        };
        let mut sample = Vec::with_capacity(list.sample_bytes());
        for (member, width) in list.members.iter().zip(&list.widths) {
            let bytes = width.div_ceil(8) as usize;
            // Low word first; signed fields are kept with their sign, and the sample has as many bits as the field.
            let words: Vec<u64> = match member {
                Member::Field(f) => f.slots().map(|s| self.s.get(s)).collect(),
                Member::Constant(v) => vec![*v as u64, (*v >> 64) as u64],
            };
            let byte = |at: usize| words.get(at / 8).map_or(0, |w| (w >> (at % 8 * 8)) as u8);
            let start = sample.len();
            sample.extend((0..bytes).rev().map(byte));
            if width % 8 != 0
                && let Some(first) = sample.get_mut(start)
            {
                *first &= 0xff >> (8 - width % 8);
            }
        }
        for members in list.members.chunks(8) {
            let valid = |(at, m): (usize, &Member)| {
                let header = if let Member::Field(f) = m { f.valid } else { None };
                u8::from(header.is_none_or(|v| self.s.get(v) != 0)) << at
            };
            sample.push(members.iter().enumerate().map(valid).sum());
        }
        self.dp.digests().learn(ix, &sample, self.pkt.now_us * 1000);
    }
}
