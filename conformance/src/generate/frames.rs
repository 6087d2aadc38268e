//! Frames that a program's parser takes: a way through its states, with the bytes that lead along it.

use std::collections::HashMap;

use serde_json::Value;

use super::bits::BitString;
use super::{PORTS, Pool, hexstr, ones};
use crate::dice::Dice;
use crate::target::Frame;

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
}

/// A frame as it grows.
#[derive(Default)]
struct Growing {
    bits: BitString,
    /// Where fields stand: of headers, of the last element of stacks, and of metadata that was set from one.
    places: HashMap<(String, String), (usize, usize)>,
    /// What lookaheads want: place, width, value.
    wanted: Vec<(usize, usize, u128)>,
    port: Option<u16>,
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
        Self { layouts, pool: Pool::new(&program), program, short: false }
    }

    /// One frame with the port that it comes from.
    pub fn frame(&self, dice: &mut Dice) -> Frame {
        let mut g = Growing::default();
        self.walk(&mut g, dice);
        let headers = g.bits.len().div_ceil(8);
        for _ in 0..dice.below(MOST_PAYLOAD) {
            g.bits.push(dice.roll().into(), 8);
        }
        for (at, width, value) in std::mem::take(&mut g.wanted) {
            g.bits.set(at, width, value);
        }
        if !dice.one_in(4) {
            self.fix_checksums(&mut g);
        }
        let mut frame = g.bits.bytes();
        if self.short && dice.one_in(8) {
            frame.truncate(dice.below(frame.len() + 1));
        } else if self.short && dice.one_in(6) && !frame.is_empty() {
            let at = dice.below(headers.min(frame.len()).max(1));
            frame[at] ^= 1 << dice.below(8);
        }
        if frame.is_empty() {
            frame.push(0);
        }
        let port = g.port.filter(|p| PORTS.contains(p)).or_else(|| dice.pick(&PORTS).copied());
        (port.unwrap_or(0), frame)
    }

    fn walk(&self, g: &mut Growing, dice: &mut Dice) {
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

    fn apply(&self, op: &Value, g: &mut Growing, dice: &mut Dice) {
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
    fn choose(&self, key: &[Value], transition: &Value, g: &mut Growing, dice: &mut Dice) {
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
    fn fix_checksums(&self, g: &mut Growing) {
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
