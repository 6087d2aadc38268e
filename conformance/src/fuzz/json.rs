//! Loading: real programs with something wrong. Whatever the JSON, it is refused or it runs; it never panics, and it never
//! takes memory out of all proportion.

use std::sync::Arc;

use dmux_softswitch::pipeline::{Clock, Dataplane, Program, Worker};
use serde_json::{Value, json};

use super::without_panic;
use crate::dice::Dice;
use crate::fuzz::packets::fill;
use crate::generate::{Frames, Pool};

/// Frames that a mutant which loads has to survive.
const FRAMES: usize = 8;

/// A clock that stands still.
pub(super) struct Still;

impl Clock for Still {
    fn now_us(&self) -> u64 {
        1_000_000
    }
}

/// One round: a mutant of one of the programs, loaded, filled, and run.
///
/// # Errors
/// What went wrong, and the mutant.
pub fn round(programs: &[Value], dice: &mut Dice) -> Result<(), (String, Vec<u8>)> {
    let Some(mut tree) = dice.pick(programs).cloned() else { return Ok(()) };
    for _ in 0..1 + dice.below(4) {
        mutate(&mut tree, dice);
    }
    let json = tree.to_string().into_bytes();
    survive(&json, &tree, dice).map_err(|what| (what, json))
}

/// Loads a JSON and, if that goes, runs frames through it.
///
/// # Errors
/// What panicked.
pub fn survive(json: &[u8], tree: &Value, dice: &mut Dice) -> Result<(), String> {
    let loaded = without_panic("loading", || Program::compile(json))?;
    let plain = without_panic("loading plainly", || Program::compile_plainly(json))?;
    if loaded.is_ok() != plain.is_ok() {
        return Err(format!("the optimizer decides whether it loads: {:?} {:?}", loaded.err(), plain.err()));
    }
    let (Ok(program), Ok(_)) = (loaded, plain) else { return Ok(()) };
    let dp = without_panic("making tables", || Dataplane::new(program, Arc::new(Still)))?;
    let pool = Pool::new(tree);
    let mut with = dice.clone();
    without_panic("writing entries", || fill(&[&dp], &pool, 3, &mut with))??;
    let frames = Frames::new(tree.clone());
    let mut worker = Worker::new(&dp);
    for _ in 0..FRAMES {
        let (port, frame) = frames.frame(dice);
        without_panic("a frame", || worker.process(&dp, port, &frame, 1_000_000, &mut |_, _: &[u8]| {}))?;
    }
    Ok(())
}

/// Changes one place of a tree.
fn mutate(tree: &mut Value, dice: &mut Dice) {
    let donor = {
        let nodes = count(tree);
        let mut at = dice.below(nodes);
        nth(tree, &mut at).cloned().unwrap_or(Value::Null)
    };
    let mut at = dice.below(count(tree));
    if let Some(node) = nth_mut(tree, &mut at) {
        change(node, donor, dice);
    }
}

fn change(node: &mut Value, donor: Value, dice: &mut Dice) {
    match node {
        Value::Array(all) if !all.is_empty() => match dice.below(5) {
            0 => {
                all.remove(dice.below(all.len()));
            }
            1 => {
                let copy = all[dice.below(all.len())].clone();
                all.insert(dice.below(all.len() + 1), copy);
            }
            2 => {
                let (a, b) = (dice.below(all.len()), dice.below(all.len()));
                all.swap(a, b);
            }
            3 => {
                let at = dice.below(all.len());
                all[at] = donor;
            }
            _ => all.truncate(dice.below(all.len())),
        },
        Value::Object(map) if !map.is_empty() => {
            let keys: Vec<String> = map.keys().cloned().collect();
            let (Some(key), Some(other)) = (dice.pick(&keys).cloned(), dice.pick(&keys).cloned()) else { return };
            match dice.below(3) {
                0 => {
                    map.remove(&key);
                }
                1 => {
                    map.insert(key, donor);
                }
                _ => {
                    let value = map.get(&other).cloned().unwrap_or(Value::Null);
                    map.insert(key, value);
                }
            }
        }
        Value::Number(n) => {
            let n = n.as_i64().unwrap_or(0);
            let around = [n.wrapping_add(1), n.wrapping_sub(1), n.wrapping_neg(), n.wrapping_mul(2)];
            let far = [0, 1, -1, 7, 8, 64, 65, 128, 129, 1 << 16, 1 << 31, 1 << 32, i64::MAX, i64::MIN];
            *node = json!(if dice.one_in(2) { around[dice.below(4)] } else { far[dice.below(far.len())] });
        }
        Value::String(text) => {
            *node = match dice.below(6) {
                0 => donor,
                1 => json!(""),
                2 => json!(format!("0x{}", "f".repeat(1 + dice.below(80)))),
                3 => json!("-0x01"),
                4 => json!(text.chars().skip(1).collect::<String>()),
                _ => json!(format!("{text}{text}")),
            }
        }
        Value::Bool(b) => *node = json!(!*b),
        _ => *node = donor,
    }
}

fn count(node: &Value) -> usize {
    1 + match node {
        Value::Array(all) => all.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    }
}

fn nth<'a>(node: &'a Value, at: &mut usize) -> Option<&'a Value> {
    if *at == 0 {
        return Some(node);
    }
    *at -= 1;
    match node {
        Value::Array(all) => all.iter().find_map(|v| nth(v, at)),
        Value::Object(map) => map.values().find_map(|v| nth(v, at)),
        _ => None,
    }
}

fn nth_mut<'a>(node: &'a mut Value, at: &mut usize) -> Option<&'a mut Value> {
    if *at == 0 {
        return Some(node);
    }
    *at -= 1;
    match node {
        Value::Array(all) => all.iter_mut().find_map(|v| nth_mut(v, at)),
        Value::Object(map) => map.values_mut().find_map(|v| nth_mut(v, at)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_can_be_reached_and_a_mutation_changes_something() {
        let tree = json!({"a": [1, "x", {"b": true}], "c": null});
        assert_eq!(count(&tree), 7);
        let all: Vec<Value> = (0..7).filter_map(|n| nth(&tree, &mut { n }).cloned()).collect();
        assert_eq!(all.len(), 7);
        assert!(nth(&tree, &mut 7).is_none());
        let dice = Dice::new(5);
        let changed = (0..100).filter(|n| {
            let mut mutant = tree.clone();
            mutate(&mut mutant, &mut dice.part(*n));
            mutant != tree
        });
        assert!(changed.count() > 60);
    }
}
