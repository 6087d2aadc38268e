//! P4Runtime writes judged by an oracle: seeded random updates, right and wrong in every way. What is accepted can be read
//! back, what is refused changed nothing and has a code that says what was wrong with it.
//!
//! The oracle (`model`) knows the specification and the P4Info, and nothing of the switch. `DMUX_FUZZ_SECONDS` makes the
//! test go on for so long, with new seeds; a failure names the seed, and `DMUX_FUZZ_SEED` repeats it alone.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

mod generate;
mod model;
mod random;

use std::sync::Arc;
use std::time::{Duration, Instant};

use dmux_p4rt::P4Info;
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::write_request::Atomicity;
use dmux_softswitch::pipeline::{Clock, Target};
use dmux_softswitch::server::config::ForwardingPipeline;
use dmux_softswitch::server::role::Access;
use generate::Generator;
use model::Model;
use random::Random;
use tonic::Code;

/// Sequences for each program when no time is given.
const SEQUENCES: u64 = 16;

/// Batches in a sequence, which starts with an empty switch.
const BATCHES: usize = 40;

struct Stopped;

impl Clock for Stopped {
    fn now_us(&self) -> u64 {
        0
    }
}

fn config(json: &[u8], p4info: &str) -> v1::ForwardingPipelineConfig {
    v1::ForwardingPipelineConfig {
        p4info: Some(P4Info::from_text(p4info).unwrap().raw().clone()),
        p4_device_config: json.to_vec(),
        cookie: None,
    }
}

fn load(config: &v1::ForwardingPipelineConfig) -> ForwardingPipeline {
    ForwardingPipeline::new(config.clone(), Arc::new(Stopped), Target::default()).unwrap()
}

/// One sequence of batches; panics at the first disagreement.
fn run(config: &v1::ForwardingPipelineConfig, seed: u64) {
    let p4info = config.p4info.clone().unwrap();
    let pipeline = load(config);
    let mut random = Random::new(seed);
    let mut model = Model::new(&p4info, &pipeline);
    for batch in 0..BATCHES {
        let count = 1 + random.below(8);
        let updates: Vec<_> = (0..count).map(|_| Generator::new(&p4info, &model, &mut random).update()).collect();
        let atomicity = *random.pick(&[
            Atomicity::ContinueOnError,
            Atomicity::ContinueOnError,
            Atomicity::RollbackOnError,
            Atomicity::DataplaneAtomic,
        ]);
        let place = format!("seed {seed}, batch {batch}, {atomicity:?}");
        match pipeline.write(&Access::default(), &updates, atomicity) {
            Ok(results) => judge(&mut model, &updates, &results, atomicity, &place),
            Err(refused) => {
                assert_eq!(atomicity, Atomicity::DataplaneAtomic, "{place}: {refused}");
                assert_eq!(refused.code, Code::Unimplemented, "{place}: {refused}");
            }
        }
        model.compare_all(&pipeline, &place);
    }
    // A pipeline that takes the state over holds the same.
    let next = load(config);
    next.take_over(&pipeline).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    model.compare_all(&next, &format!("seed {seed}, taken over"));
}

/// Compares the results with what the model says, and changes the model by what was done.
fn judge(
    model: &mut Model,
    updates: &[v1::Update],
    results: &[Result<(), dmux_softswitch::server::error::Refused>],
    atomicity: Atomicity,
    place: &str,
) {
    assert_eq!(results.len(), updates.len(), "{place}: one result for each update");
    let mut after = model.clone();
    for (index, (update, result)) in updates.iter().zip(results).enumerate() {
        let all_or_nothing = atomicity != Atomicity::ContinueOnError;
        if all_or_nothing && matches!(result, Err(refused) if refused.code == Code::Aborted) {
            let failed = results.iter().filter(|r| matches!(r, Err(e) if e.code != Code::Aborted)).count();
            assert_eq!(failed, 1, "{place}: one update is to blame for the others");
            // What came before the one to blame was fine on its own; what comes after it was not looked at.
            let blamed = results.iter().position(|r| matches!(r, Err(e) if e.code != Code::Aborted)).unwrap();
            if index < blamed && atomicity == Atomicity::RollbackOnError {
                let wrong = after.apply(update);
                assert!(wrong.is_empty(), "{place}: update {index} should be refused: {wrong:?} {update:#?}");
            } else if index < blamed {
                after.apply(update);
            }
            continue;
        }
        let wrong = after.apply(update);
        match result {
            Ok(()) => assert!(wrong.is_empty(), "{place}: update {index} was accepted: {wrong:?} {update:#?}"),
            Err(refused) => {
                // A batch is checked before anything of it is done, so its state may differ from the model's.
                let code = refused.code;
                let known = wrong.contains(&code);
                assert!(
                    known,
                    "{place}: update {index} was refused with {code:?} ({refused}), not {wrong:?}: {update:#?}"
                );
            }
        }
    }
    if atomicity == Atomicity::ContinueOnError || results.iter().all(Result::is_ok) {
        *model = after;
    }
}

fn holdings() -> v1::ForwardingPipelineConfig {
    let json = include_bytes!("../p4runtime_programs/holdings.json");
    config(json, include_str!("../p4runtime_programs/holdings.p4info.txtpb"))
}

fn fuzz(config: &v1::ForwardingPipelineConfig) {
    let number = |name: &str| std::env::var(name).ok().map(|v| v.parse::<u64>().unwrap());
    if let Some(seed) = number("DMUX_FUZZ_SEED") {
        return run(config, seed);
    }
    match number("DMUX_FUZZ_SECONDS") {
        None => (0..SEQUENCES).for_each(|seed| run(config, seed)),
        Some(seconds) => {
            let until = Instant::now() + Duration::from_secs(seconds);
            let first = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
            let mut seeds = 0;
            while Instant::now() < until {
                run(config, first.wrapping_add(seeds));
                seeds += 1;
            }
            eprintln!("{seeds} sequences from seed {first}");
        }
    }
}

#[test]
fn writes_of_the_portal_program() {
    let json = include_bytes!("../p4runtime_programs/portal.json");
    fuzz(&config(json, include_str!("../p4runtime_programs/portal.p4info.txtpb")));
}

#[test]
fn writes_of_the_fanout_program() {
    let json = include_bytes!("../p4runtime_programs/fanout.json");
    fuzz(&config(json, include_str!("../p4runtime_programs/fanout.p4info.txtpb")));
}

#[test]
fn writes_of_the_holdings_program() {
    fuzz(&holdings());
}

/// Found by ten minutes of fuzzing: a batch that failed had set the metadata of an entry with an action set that takes more
/// than half of its profile; undoing it wrote the set again, beside itself.
#[test]
fn the_metadata_of_an_entry_whose_action_set_fills_the_profile_is_rolled_back() {
    run(&holdings(), 1_795_579_366_780_879_074);
}

#[test]
fn writes_of_the_gateway_program() {
    let json = include_bytes!("../../../bmv2-configs/gateway.json");
    fuzz(&config(json, include_str!("../../../bmv2-configs/gateway.p4info.txtpb")));
}
