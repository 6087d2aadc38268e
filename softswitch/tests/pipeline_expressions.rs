//! Expressions as p4c writes them, against integers of any size (as BMv2 computes).

mod pipeline_support;

use num_bigint::{BigInt, Sign};
use pipeline_support::build::{action, always, assign, field, program};
use pipeline_support::{dataplane, run};
use proptest::prelude::*;
use serde_json::{Value, json};

const UNSIGNED: [u32; 12] = [1, 7, 8, 16, 32, 48, 64, 65, 128, 129, 200, 520];
const SIGNED: [u32; 8] = [8, 13, 32, 64, 100, 128, 130, 257];
/// Bits that the result fills in a packet, whatever its width.
const RESULT: u32 = 576;

/// Deterministic choices out of one seed.
struct Choices(u64);

impl Choices {
    fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn width(&mut self) -> u32 {
        UNSIGNED[self.below(12) as usize]
    }
    fn signed_width(&mut self) -> u32 {
        SIGNED[self.below(8) as usize]
    }
    /// A value of `w` bits.
    fn wide(&mut self, w: u32) -> BigInt {
        let v = (0..12).fold(BigInt::ZERO, |v, _| (v << 48) | BigInt::from(self.next() >> 8));
        // Often small or at an edge.
        let v = match self.below(4) {
            0 => v & BigInt::from(3),
            1 => ones(w) - (v & BigInt::from(3)),
            _ => v,
        };
        bits(&v, w)
    }
}

fn ones(w: u32) -> BigInt {
    (BigInt::from(1) << w) - 1
}

/// An expression in the JSON's form, and its value.
struct Made {
    json: Value,
    value: BigInt,
}

fn op(op: &str, a: &Made, b: &Made, value: BigInt) -> Made {
    let inner = json!({"op": op, "left": a.json, "right": b.json});
    Made { json: json!({"type": "expression", "value": {"type": "expression", "value": inner}}), value }
}

fn constant(v: &BigInt) -> Made {
    let hex = if *v < BigInt::ZERO { format!("-0x{:x}", -v) } else { format!("0x{v:x}") };
    Made { json: json!({"type": "hexstr", "value": hex}), value: v.clone() }
}

fn bits(v: &BigInt, w: u32) -> BigInt {
    v & ones(w)
}

fn twos(v: &BigInt, w: u32) -> BigInt {
    let low = bits(v, w);
    if low >= BigInt::from(1) << (w - 1) { low - (BigInt::from(1) << w) } else { low }
}

/// The fields' values.
struct Fields {
    unsigned: Vec<BigInt>,
    signed: Vec<BigInt>,
}

/// Cuts to `w` bits as p4c does after every operation that can overflow.
fn masked(m: Made, w: u32) -> Made {
    let v = bits(&m.value, w);
    op("&", &m, &constant(&ones(w)), v)
}

fn unsigned(c: &mut Choices, f: &Fields, w: u32, depth: u32) -> Made {
    if depth == 0 {
        return match c.below(3) {
            0 => constant(&c.wide(w)),
            _ => {
                let at = UNSIGNED.iter().position(|x| *x == w).unwrap_or(0);
                Made { json: field(&format!("u{w}")), value: f.unsigned[at].clone() }
            }
        };
    }
    let depth = depth - 1;
    match c.below(16) {
        n @ 0..=2 => {
            let (a, b) = (unsigned(c, f, w, depth), unsigned(c, f, w, depth));
            let (name, v) = match n {
                0 => ("+", &a.value + &b.value),
                1 => ("-", &a.value - &b.value),
                _ => ("*", &a.value * &b.value),
            };
            masked(op(name, &a, &b, v), w)
        }
        n @ 3..=5 => {
            let (a, b) = (unsigned(c, f, w, depth), unsigned(c, f, w, depth));
            let (name, v) = match n {
                3 => ("&", &a.value & &b.value),
                4 => ("|", &a.value | &b.value),
                _ => ("^", &a.value ^ &b.value),
            };
            op(name, &a, &b, v)
        }
        6 => {
            let a = unsigned(c, f, w, depth);
            let inner = json!({"op": "~", "left": null, "right": a.json});
            masked(Made { json: json!({"type": "expression", "value": inner}), value: -a.value - 1 }, w)
        }
        7 => {
            let (a, k) = (unsigned(c, f, w, depth), c.below(if w > 128 { 600 } else { 140 }));
            let v = &a.value << k;
            masked(op("<<", &a, &constant(&k.into()), v), w)
        }
        8 => {
            let (a, k) = (unsigned(c, f, w, depth), c.below(if w > 128 { 600 } else { 140 }));
            let v = &a.value >> k;
            op(">>", &a, &constant(&k.into()), v)
        }
        9 => {
            let (a, k) = (unsigned(c, f, w, depth), unsigned(c, f, 8, depth.min(1)));
            let by: u64 = k.value.clone().try_into().unwrap_or(0);
            if c.below(2) == 0 {
                let v = &a.value << by;
                masked(op("<<", &a, &k, v), w)
            } else {
                let v = &a.value >> by;
                op(">>", &a, &k, v)
            }
        }
        10 => {
            let from = c.width();
            masked(unsigned(c, f, from, depth), w)
        }
        11 => {
            let from = c.signed_width();
            masked(signed(c, f, from, depth), w)
        }
        12 => {
            let (cond, yes) = boolean(c, f, depth);
            let (a, b) = (unsigned(c, f, w, depth), unsigned(c, f, w, depth));
            let inner = json!({"op": "?", "left": a.json, "right": b.json, "cond": cond});
            Made { json: json!({"type": "expression", "value": inner}), value: if yes { a.value } else { b.value } }
        }
        13 => {
            let (a, b) = (unsigned(c, f, w, depth), unsigned(c, f, w, depth));
            let (name, v) = if c.below(2) == 0 { ("+", &a.value + &b.value) } else { ("-", &a.value - &b.value) };
            let clamped = v.clone().clamp(BigInt::ZERO, ones(w));
            op("usat_cast", &op(name, &a, &b, v), &constant(&w.into()), clamped)
        }
        14 => {
            let (a, b) = (unsigned(c, f, w, depth), unsigned(c, f, w, depth));
            let zero = b.value == BigInt::ZERO;
            if c.below(2) == 0 {
                let v = if zero { BigInt::ZERO } else { &a.value / &b.value };
                op("/", &a, &b, v)
            } else {
                let v = if zero { BigInt::ZERO } else { &a.value % &b.value };
                op("%", &a, &b, v)
            }
        }
        _ => {
            let (cond, yes) = boolean(c, f, depth);
            let inner = json!({"op": "b2d", "left": null, "right": cond});
            Made { json: json!({"type": "expression", "value": inner}), value: u8::from(yes).into() }
        }
    }
}

fn signed(c: &mut Choices, f: &Fields, w: u32, depth: u32) -> Made {
    if depth == 0 {
        return match c.below(3) {
            0 => constant(&twos(&c.wide(w), w)),
            _ => {
                let at = SIGNED.iter().position(|x| *x == w).unwrap_or(0);
                Made { json: field(&format!("s{w}")), value: twos(&f.signed[at], w) }
            }
        };
    }
    let depth = depth - 1;
    let cast = |m: Made| {
        let v = twos(&m.value, w);
        op("two_comp_mod", &m, &constant(&w.into()), v)
    };
    match c.below(7) {
        n @ 0..=2 => {
            let (a, b) = (signed(c, f, w, depth), signed(c, f, w, depth));
            let (name, v) = match n {
                0 => ("+", &a.value + &b.value),
                1 => ("-", &a.value - &b.value),
                _ => ("*", &a.value * &b.value),
            };
            cast(op(name, &a, &b, v))
        }
        3 => {
            let from = c.width();
            cast(unsigned(c, f, from, depth))
        }
        4 => {
            let from = c.signed_width();
            cast(signed(c, f, from, depth))
        }
        5 => {
            let (a, k) = (signed(c, f, w, depth), c.below(if w > 128 { 600 } else { 140 }));
            let v = &a.value >> k;
            op(">>", &a, &constant(&k.into()), v)
        }
        _ => {
            let (a, b) = (signed(c, f, w, depth), signed(c, f, w, depth));
            let (name, v) = if c.below(2) == 0 { ("+", &a.value + &b.value) } else { ("-", &a.value - &b.value) };
            let half = BigInt::from(1) << (w - 1);
            let clamped = v.clone().clamp(-half.clone(), half - 1);
            op("sat_cast", &op(name, &a, &b, v), &constant(&w.into()), clamped)
        }
    }
}

fn boolean(c: &mut Choices, f: &Fields, depth: u32) -> (Value, bool) {
    let expr = |v: Value| json!({"type": "expression", "value": v});
    let pick = c.below(if depth == 0 { 2 } else { 6 });
    let below = depth.saturating_sub(1);
    match pick {
        0 | 1 => {
            let (a, b) = if pick == 0 {
                let w = c.width();
                (unsigned(c, f, w, below), unsigned(c, f, w, below))
            } else {
                let w = c.signed_width();
                (signed(c, f, w, below), signed(c, f, w, below))
            };
            let (name, v) = match c.below(6) {
                0 => ("==", a.value == b.value),
                1 => ("!=", a.value != b.value),
                2 => ("<", a.value < b.value),
                3 => ("<=", a.value <= b.value),
                4 => (">", a.value > b.value),
                _ => (">=", a.value >= b.value),
            };
            (expr(json!({"op": name, "left": a.json, "right": b.json})), v)
        }
        2 | 3 => {
            let ((a, x), (b, y)) = (boolean(c, f, below), boolean(c, f, below));
            let (name, v) = if pick == 2 { ("and", x && y) } else { ("or", x || y) };
            (expr(json!({"op": name, "left": a, "right": b})), v)
        }
        4 => {
            let (a, x) = boolean(c, f, below);
            (expr(json!({"op": "not", "left": null, "right": a})), !x)
        }
        _ => {
            let w = c.width();
            let a = unsigned(c, f, w, below);
            (expr(json!({"op": "d2b", "left": null, "right": a.json})), a.value != BigInt::ZERO)
        }
    }
}

/// All fields, the result first.
fn layout(width: u32, result_signed: bool) -> Vec<(String, u32, bool)> {
    let mut l = vec![("result".to_owned(), width, result_signed)];
    l.push(("fill".to_owned(), RESULT - width, false));
    l.extend(UNSIGNED.iter().map(|w| (format!("u{w}"), *w, false)));
    l.extend(SIGNED.iter().map(|w| (format!("s{w}"), *w, true)));
    l
}

fn frame(f: &Fields) -> Vec<u8> {
    let mut bits = vec![0u8; RESULT as usize];
    let all = UNSIGNED.iter().zip(&f.unsigned).chain(SIGNED.iter().zip(&f.signed));
    for (w, v) in all {
        bits.extend((0..*w).rev().map(|i| u8::from(v.bit(u64::from(i)))));
    }
    bits.resize(bits.len().div_ceil(8) * 8, 0);
    bits.chunks(8).map(|c| c.iter().fold(0, |b, x| b << 1 | x)).collect()
}

fn check(seed: u64, depth: u32) {
    let mut c = Choices(seed | 1);
    let f = Fields {
        unsigned: UNSIGNED.iter().map(|w| c.wide(*w)).collect(),
        signed: SIGNED.iter().map(|w| c.wide(*w)).collect(),
    };
    let is_signed = c.below(3) == 0;
    let (to, made) = if is_signed {
        let from = c.signed_width();
        (c.signed_width(), signed(&mut c, &f, from, depth))
    } else {
        let from = c.width();
        (c.width(), unsigned(&mut c, &f, from, depth))
    };
    let set = action("go", 0, &[], vec![assign("result", &made.json)]);
    let json = program(&layout(to, is_signed), vec![set], vec![always("t", "go", 0)], "t");
    let out = run(&dataplane(&json), 0, &frame(&f));
    let got = BigInt::from_bytes_be(Sign::Plus, &out[0].1[..RESULT as usize / 8]) >> (RESULT - to);
    assert_eq!(got, bits(&made.value, to), "seed {seed}, depth {depth}: {}", made.json);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn expressions_have_the_value_that_integers_of_any_size_give(seed in any::<u64>(), depth in 1u32..5) {
        check(seed, depth);
    }
}
