//! Frames that a program's parser takes: a way through its states, with the bytes that lead along it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::bits::BitString;
use super::entries::Values;
use super::{PORTS, Pool, hexstr, ones};
use crate::dice::Dice;
use crate::target::{CPU_PORT, Frame};

/// States that a frame passes at most: parsers may loop.
const MOST_STATES: usize = 24;
/// Bytes behind the headers.
const MOST_PAYLOAD: usize = 64;

/// A header as the JSON describes it: fields and their widths, 0 for one of variable length.
type Layout = Vec<(String, usize)>;

/// Makes frames for one program.
#[derive(Debug)]
pub struct Frames {
    program: Value,
    layouts: HashMap<String, Layout>,
    pool: Pool,
    /// Whether frames may end within a header: what a program reads of a header that is not there is undefined.
    pub short: bool,
    /// Whether frames may come from the controller.
    pub from_controller: bool,
}

/// A frame with what is known of it.
#[derive(Debug, Clone, Default)]
pub struct Sketch {
    bits: BitString,
    /// Where fields stand: of headers, of the last element of stacks, and of metadata that was set from one.
    places: BTreeMap<(String, String), (usize, usize)>,
    /// What lookaheads want: place, width, value.
    wanted: Vec<(usize, usize, u128)>,
    /// Fields that led the parser on its way.
    chosen: BTreeSet<(String, String)>,
    port: Option<u16>,
    /// Bits of headers.
    headers: usize,
}

impl Sketch {
    /// Takes over another one's port and most of its fields, but for those that led the parser.
    pub(super) fn inherit(&mut self, other: &Self, dice: &mut Dice) {
        if self.port != Some(CPU_PORT) && other.port != Some(CPU_PORT) {
            self.port = other.port;
        }
        for (name, (at, width)) in self.places.iter().filter(|(name, _)| !self.chosen.contains(*name)) {
            if let Some((from, of)) = other.places.get(name)
                && of == width
                && !dice.one_in(8)
            {
                self.bits.put(*at, other.bits.slice(*from, *width));
            }
        }
    }

    /// The values of its fields, by width.
    pub(super) fn values(&self) -> Values {
        let mut values = Values::default();
        for (at, width) in self.places.values().filter(|(_, width)| (1..=128).contains(width)) {
            let number = self.bits.slice(*at, *width).iter().fold(0, |n, bit| n << 1 | u128::from(*bit));
            values.add(*width as u32, &u128::to_be_bytes(number));
        }
        values
    }
}

impl Frames {
    /// For a program (BMv2 JSON).
    pub fn new(program: Value) -> Self {
        let mut types: HashMap<&str, Layout> = HashMap::new();
        for t in list(&program, "header_types") {
            let width = |f: &Value| f.get(1).and_then(Value::as_u64).unwrap_or(0) as usize;
            let field = |f: &Value| (f.get(0).and_then(Value::as_str).unwrap_or_default().to_owned(), width(f));
            types.insert(text(t, "name"), list(t, "fields").iter().map(field).collect());
        }
        let layouts = list(&program, "headers")
            .iter()
            .chain(list(&program, "header_stacks"))
            .filter_map(|h| Some((text(h, "name").to_owned(), types.get(text(h, "header_type"))?.clone())))
            .collect();
        Self { layouts, pool: Pool::new(&program), program, short: false, from_controller: false }
    }

    /// One frame with the port that it comes from.
    pub fn frame(&self, dice: &mut Dice) -> Frame {
        let sketch = self.sketch(dice);
        self.finish(&sketch, dice)
    }

    /// A frame that takes some way through the parser.
    pub(super) fn sketch(&self, dice: &mut Dice) -> Sketch {
        let mut g = Sketch::default();
        self.walk(&mut g, dice);
        g.headers = g.bits.len();
        for _ in 0..dice.below(MOST_PAYLOAD) {
            g.bits.push(dice.roll().into(), 8);
        }
        for (at, width, value) in std::mem::take(&mut g.wanted) {
            g.bits.set(at, width, value);
        }
        if g.port.is_none_or(|p| if p == CPU_PORT { !self.from_controller } else { !PORTS.contains(&p) }) {
            g.port = dice.pick(&PORTS).copied();
        }
        g
    }

    /// Changes a few fields of a frame, or the port that it comes from.
    pub(super) fn change(&self, sketch: &mut Sketch, values: &Values, pool: &Pool, dice: &mut Dice) {
        let own = sketch.values();
        let places: Vec<_> = sketch.places.iter().map(|(name, place)| (name.clone(), *place)).collect();
        let decisive: Vec<_> = places.iter().filter(|(name, _)| pool.decides(name)).cloned().collect();
        for _ in 0..1 + dice.below(3) {
            if dice.one_in(6) && sketch.port != Some(CPU_PORT) {
                sketch.port = dice.pick(&PORTS).copied();
                continue;
            }
            let of = if dice.one_in(2) && !decisive.is_empty() { &decisive } else { &places };
            let Some((name, (at, width))) = dice.pick(of).cloned() else { return };
            let bits = width.min(128) as u32;
            let value = match dice.below(8) {
                0..=3 => values.pick(bits, dice),
                4 => own.pick(bits, dice),
                _ => None,
            };
            sketch.bits.set(at, width, value.unwrap_or_else(|| pool.field(&name, bits, dice)));
        }
    }

    /// Puts right what follows from the rest of a frame, mostly; gives it with the port that it comes from.
    pub(super) fn finish(&self, sketch: &Sketch, dice: &mut Dice) -> Frame {
        let mut g = sketch.clone();
        if !dice.one_in(8) {
            fix_lengths(&mut g);
        }
        if !dice.one_in(8) {
            self.fix_checksums(&mut g);
        }
        let mut frame = g.bits.bytes();
        let port = g.port.unwrap_or(0);
        if self.short && port != CPU_PORT {
            if dice.one_in(8) {
                frame.truncate(dice.below(frame.len() + 1));
            } else if dice.one_in(6) && !frame.is_empty() {
                let headers = g.headers.div_ceil(8);
                let at = dice.below(headers.min(frame.len()).max(1));
                frame[at] ^= 1 << dice.below(8);
            }
        }
        if frame.is_empty() {
            frame.push(0);
        }
        (port, frame)
    }

    fn walk(&self, g: &mut Sketch, dice: &mut Dice) {
        let Some(parser) = list(&self.program, "parsers").first() else { return };
        let mut state = text(parser, "init_state").to_owned();
        for _ in 0..MOST_STATES {
            let Some(s) = list(parser, "parse_states").iter().find(|s| text(s, "name") == state) else { return };
            for op in list(s, "parser_ops") {
                self.apply(op, g, dice);
            }
            let transitions = list(s, "transitions");
            let Some(t) = dice.pick(transitions) else { return };
            if text(t, "type") == "hexstr" {
                self.choose(list(s, "transition_key"), t, g, dice);
            }
            let Some(next) = t.get("next_state").and_then(Value::as_str) else { return };
            state = next.to_owned();
        }
    }

    fn apply(&self, op: &Value, g: &mut Sketch, dice: &mut Dice) {
        let parameters = list(op, "parameters");
        let first = parameters.first();
        match text(op, "op") {
            "extract" | "extract_VL" => {
                let Some(header) = first.and_then(|p| p.get("value")).and_then(Value::as_str) else { return };
                for (field, width) in self.layouts.get(header).map_or(&[][..], Vec::as_slice) {
                    let at = g.bits.len();
                    let name = (header.to_owned(), field.clone());
                    let high = width.saturating_sub(128);
                    if high > 0 {
                        g.bits.push(self.pool.value(high.min(128) as u32, dice), high);
                    }
                    g.bits.push(self.pool.field(&name, (*width).min(128) as u32, dice), *width - high);
                    g.places.insert(name, (at, *width));
                }
            }
            "advance" => {
                let bits = first.and_then(|p| p.get("value")).and_then(Value::as_str).and_then(hexstr).unwrap_or(0);
                g.bits.push(dice.roll().into(), bits.min(512) as usize);
            }
            "set" => {
                let (Some(to), Some(from)) = (first.and_then(field), parameters.get(1).and_then(field)) else { return };
                if let Some(place) = g.places.get(&from).copied() {
                    g.places.insert(to, place);
                }
            }
            _ => {}
        }
    }

    /// Makes the key what a transition wants. Each part of the key takes whole bytes of the value.
    fn choose(&self, key: &[Value], transition: &Value, g: &mut Sketch, dice: &mut Dice) {
        let Some(value) = hexstr(text(transition, "value")) else { return };
        let mask = hexstr(text(transition, "mask")).unwrap_or(u128::MAX);
        let mut left = 0;
        for part in key.iter().rev() {
            let look = text(part, "type") == "lookahead";
            let numbers = part.get("value").and_then(Value::as_array);
            let number = |n: usize| numbers.and_then(|v| v.get(n)?.as_u64()).unwrap_or(0) as usize;
            let place = if look { Some((g.bits.len() + number(0), number(1))) } else { None };
            let name = field(part);
            let place = place.or_else(|| g.places.get(name.as_ref()?).copied());
            let width = place.map_or_else(|| self.width(name.as_ref()), |p| p.1);
            let taken = if left < 128 { value >> left } else { 0 };
            let meant = if left < 128 { mask >> left } else { 0 };
            left += width.next_multiple_of(8);
            let all = ones(width.min(128) as u32);
            let value = (taken & meant | self.pool.value(width.min(128) as u32, dice) & !meant) & all;
            g.chosen.extend(name.clone().filter(|_| meant & all != 0));
            match place {
                Some((at, width)) if look => g.wanted.push((at, width, value)),
                Some((at, width)) => g.bits.set(at, width, value),
                None if name.is_some_and(|(h, f)| h == "standard_metadata" && f == "ingress_port") => {
                    g.port = u16::try_from(value).ok();
                }
                None => {}
            }
        }
    }

    fn width(&self, field: Option<&(String, String)>) -> usize {
        let found = field.and_then(|(h, f)| self.layouts.get(h)?.iter().find(|(name, _)| name == f));
        found.map_or(8, |f| f.1)
    }

    /// Puts right the plain RFC 1071 checksums that the program verifies.
    fn fix_checksums(&self, g: &mut Sketch) {
        for checksum in list(&self.program, "checksums") {
            let wanted = checksum.get("verify").and_then(Value::as_bool) != Some(false);
            let target = checksum.get("target").and_then(Value::as_array).map(Vec::as_slice);
            let (true, Some(target)) = (wanted, target.and_then(pair)) else { continue };
            let Some((at, width)) = g.places.get(&target).copied() else { continue };
            let calculations = list(&self.program, "calculations");
            let calculation = calculations.iter().find(|c| text(c, "name") == text(checksum, "calculation"));
            let Some(calculation) = calculation.filter(|c| text(c, "algo") == "csum16") else { continue };
            let mut input = BitString::default();
            for part in list(calculation, "input") {
                let place = field(part).and_then(|f| g.places.get(&f).copied());
                match (place, text(part, "type")) {
                    (Some((at, width)), "field") => {
                        let bits = g.bits.slice(at, width).to_vec();
                        input.extend(&bits);
                    }
                    (_, "payload") => {
                        let end = g.places.values().map(|(at, width)| at + width).max().unwrap_or(0);
                        let bits = g.bits.slice(end, g.bits.len()).to_vec();
                        input.extend(&bits);
                    }
                    (_, "hexstr") => {
                        let width = part.get("bitwidth").and_then(Value::as_u64).unwrap_or(0);
                        input.push(hexstr(text(part, "value")).unwrap_or(0), width as usize);
                    }
                    _ => {}
                }
            }
            g.bits.set(at, width, ones_complement(&input.bytes()).into());
        }
    }
}

/// Makes lengths of two bytes (`total_len`, `length`) what they say in IPv4 and UDP: from the header's begin to the frame's end.
/// Those that the parser went by stay.
fn fix_lengths(g: &mut Sketch) {
    let named = |field: &str| field.to_lowercase().contains("len");
    let fields = g.places.iter().filter(|(name, place)| place.1 == 16 && named(&name.1) && !g.chosen.contains(*name));
    let fields: Vec<_> = fields.map(|(name, place)| (name.0.clone(), *place)).collect();
    for (header, (at, width)) in fields {
        let begin = g.places.iter().filter(|(name, _)| name.0 == header).map(|(_, place)| place.0).min().unwrap_or(0);
        let bytes = (g.bits.len() - begin) / 8;
        g.bits.set(at, width, bytes as u128);
    }
}

/// RFC 1071.
fn ones_complement(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|w| u64::from(w[0]) << 8 | u64::from(w.get(1).copied().unwrap_or(0)));
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn list<'a>(node: &'a Value, name: &str) -> &'a [Value] {
    node.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(node: &'a Value, name: &str) -> &'a str {
    node.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The field that a parameter or a part of a key names.
fn field(node: &Value) -> Option<(String, String)> {
    matches!(text(node, "type"), "field" | "stack_field").then(|| pair(list(node, "value")))?
}

fn pair(names: &[Value]) -> Option<(String, String)> {
    match names {
        [a, b] => Some((a.as_str()?.to_owned(), b.as_str()?.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gateway's parser sees UDP only behind the right bytes at four places: generated frames get there.
    #[test]
    fn frames_get_deep_into_a_parser() {
        let json = include_bytes!("../../../bmv2-configs/gateway.json");
        let frames = Frames::new(serde_json::from_slice(json).unwrap());
        let dice = Dice::new(1);
        let mut deep = 0;
        for n in 0..400 {
            let (_, frame) = frames.frame(&mut dice.part(n));
            let again = frames.frame(&mut dice.part(n)).1;
            assert_eq!(frame, again, "a seed determines the frame");
            let ipv4 = frame.len() > 40 && frame[12..14] == [8, 0] && frame[14] == 0x45;
            deep += usize::from(ipv4 && frame[23] == 17 && ones_complement(&frame[14..34]) == 0);
        }
        assert!(deep > 20, "only {deep} of 400 frames are UDP with a right checksum");
    }
}
