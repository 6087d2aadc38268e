//! Who waits for a metalink is told when the switch has it, or why it never will; and what cannot be programmed is given back.

use std::time::Duration;

use super::super::Planner;
use super::metalinks::{METANET, access_log, claim, endpoint, planner, ready};
use super::rig::Rig;
use super::{Log, OWN};
use crate::attachment::NotProgrammed;
use crate::model::{Command, LinkKey, MetalinkId, Refusal};
use crate::programming::{GIVE_BACK_AGAIN, GIVE_BACKS_AT_ONCE, MAX_WAITERS, Programming, Waiter};
use crate::registration::Now;

/// Long before anybody's patience ends.
const SOON: Duration = Duration::from_secs(5);

struct Bench {
    log: Log,
    planner: Planner,
    rig: Rig,
    programming: Programming<&'static str>,
}

type Answers = Vec<(&'static str, Result<(), NotProgrammed>)>;

impl Bench {
    fn new() -> Self {
        let (log, planner, rig) = ready();
        Self { log, planner, rig, programming: Programming::default() }
    }

    fn wait(&mut self, metalink: MetalinkId, who: &'static str) {
        let (applied, until) = (self.log.model.applied(), self.rig.now + SOON);
        self.programming.wait(Waiter { metalink, applied, until, who }).unwrap();
    }

    fn plan(&mut self) {
        self.rig.reconciler.planned(&self.planner.update(&self.log.model));
    }

    fn run(&mut self) {
        self.plan();
        self.rig.run(self.planner.plan());
    }

    fn answers(&mut self) -> Answers {
        self.programming.answers(self.rig.now, &self.log.model, &self.planner, &self.rig.reconciler)
    }

    /// What is to be given back; nothing is applied.
    fn given_back(&mut self) -> Vec<Command> {
        let now = Now { mono: self.rig.now, unix: self.rig.now };
        let given_back = self.programming.give_back(now, &self.log.model, &self.planner, &self.rig.reconciler);
        given_back.into_iter().map(|given_back| given_back.command).collect()
    }
}

#[test]
fn who_waits_is_told_when_the_switch_has_it_and_not_before() {
    let mut bench = Bench::new();
    let new = bench.log.claimed(claim(endpoint(2, 3), "floor-1", METANET, 1_000_000, 1));
    bench.wait(new, "claimed");
    assert_eq!(bench.answers(), [], "the plan does not have it");
    bench.plan();
    assert_eq!(bench.answers(), [], "the switch does not");
    bench.run();
    assert_eq!(bench.answers(), [("claimed", Ok(()))]);
    assert_eq!(bench.answers(), [], "told once");
    bench.log.must(Command::AdjustMetalink { at: 1, metalink: new, rate: 2_000_000 });
    bench.wait(new, "adjusted");
    bench.plan();
    assert_eq!(bench.answers(), [], "its meters are the old ones");
    bench.run();
    assert_eq!(bench.answers(), [("adjusted", Ok(()))]);
    bench.log.release(new);
    bench.wait(new, "late");
    bench.run();
    let why = "it was revoked, or its lease has ended".to_owned();
    assert_eq!(bench.answers(), [("late", Err(NotProgrammed(why)))]);
}

#[test]
fn a_controller_that_has_not_applied_the_claim_waits_for_it() {
    let mut bench = Bench::new();
    let metalink = MetalinkId { gateway: OWN, mli: crate::model::Mli(2) };
    let applied = bench.log.model.applied() + 1;
    let until = bench.rig.now + SOON;
    bench.programming.wait(Waiter { metalink, applied, until, who: "claimed elsewhere" }).unwrap();
    assert_eq!(bench.answers(), []);
    assert_eq!(bench.log.claimed(claim(endpoint(2, 3), "floor-1", METANET, 1_000_000, 1)), metalink);
    bench.run();
    assert_eq!(bench.answers(), [("claimed elsewhere", Ok(()))]);
}

#[test]
fn who_waits_too_long_is_dropped_and_so_many_may_wait() {
    let mut bench = Bench::new();
    let new = bench.log.claimed(claim(endpoint(2, 3), "floor-1", METANET, 1_000_000, 1));
    for _ in 0..MAX_WAITERS {
        bench.wait(new, "one of many");
    }
    let one_more = Waiter { metalink: new, applied: 0, until: SOON, who: "one more" };
    assert_eq!(bench.programming.wait(one_more), Err("one more"));
    assert_eq!(bench.programming.next_deadline(), Some(bench.rig.now + SOON));
    bench.rig.now += SOON;
    assert_eq!(bench.answers(), []);
    assert_eq!(bench.programming.next_deadline(), None);
}

#[test]
fn what_the_site_has_no_place_for_is_given_back_and_a_retry_is_told_why() {
    let mut bench = Bench::new();
    let wanted = claim(endpoint(2, 3), "attic", METANET, 1_000_000, 7);
    let nowhere = bench.log.claimed(wanted.clone());
    bench.wait(nowhere, "claimed");
    bench.run();
    let why = "the gateway's site configuration has no access link \"attic\"";
    let command = |at| Command::GiveMetalinkBack { at, metalink: nowhere, request: 7, why: why.into() };
    let now = |bench: &Bench| bench.rig.now.as_millis() as u64;
    assert_eq!(bench.given_back(), [command(now(&bench))]);
    assert_eq!(bench.given_back(), [], "it is under way");
    assert_eq!(bench.answers(), [], "it is there still");
    // The proposal was lost.
    bench.rig.now += GIVE_BACK_AGAIN;
    let again = bench.given_back();
    assert_eq!(again, [command(now(&bench))]);
    bench.log.must(again[0].clone());
    bench.run();
    assert_eq!(bench.answers(), [("claimed", Err(NotProgrammed(why.into())))]);
    assert_eq!(bench.given_back(), []);
    let key = LinkKey { gateway: OWN, name: "attic".into() };
    assert_eq!(bench.log.model.link_use(&key).long, 0, "nothing is promised any more");
    assert_eq!(bench.log.apply(wanted).refusal(), Some(&Refusal::NotProgrammed(why.into())));
    // To somewhere else, by the next claim.
    let elsewhere = bench.log.claimed(claim(endpoint(2, 3), "floor-1", METANET, 1_000_000, 8));
    bench.wait(elsewhere, "next");
    bench.run();
    assert_eq!((bench.answers(), bench.given_back()), (vec![("next", Ok(()))], vec![]));
}

#[test]
fn what_the_switch_has_no_room_for_is_given_back_and_nothing_else_is() {
    let mut bench = Bench::new();
    let full = bench.log.claimed(claim(endpoint(2, 3), "floor-1", METANET, 1_000_000, 1));
    let fits = bench.log.claimed(claim(endpoint(3, 3), "floor-1", METANET, 1_000_000, 1));
    bench.plan();
    bench.rig.switch.refuses.extend(bench.planner.metalink_keys(full.mli).last().copied());
    bench.wait(full, "full");
    bench.wait(fits, "fits");
    bench.run();
    assert_eq!(bench.answers(), [("fits", Ok(()))]);
    let given_back = bench.given_back();
    let why = "the switch refuses an entry of metalink_tx: table is full (code 8)";
    let [Command::GiveMetalinkBack { metalink, why: told, .. }] = &given_back[..] else { panic!("{given_back:?}") };
    assert_eq!((*metalink, told.as_str()), (full, why));
    bench.log.must(given_back[0].clone());
    bench.run();
    assert_eq!(bench.answers(), [("full", Err(NotProgrammed(why.into())))]);
    assert!(bench.rig.switch.holds(bench.planner.plan()), "what was written of it is gone");
    assert_eq!(bench.given_back(), []);
}

#[test]
fn a_later_claim_is_not_given_back_for_an_earlier_ones_sake() {
    let mut bench = Bench::new();
    let metalink = bench.log.claimed(claim(endpoint(2, 5), "floor-1", METANET, 1_000, 1));
    bench.run();
    let given_back = bench.given_back();
    assert_eq!(bench.log.claimed(claim(endpoint(2, 5), "floor-2", METANET, 1_000, 2)), metalink);
    bench.log.must(given_back[0].clone());
    assert!(bench.log.model.metalink(metalink).is_some());
    bench.run();
    assert_eq!(bench.given_back(), []);
}

#[test]
fn a_site_that_lost_an_access_link_gives_back_a_few_at_a_time() {
    let mut log = access_log();
    for n in 0..200 {
        log.claimed(claim(endpoint(n, 3), "attic", METANET, 1_000, 1));
    }
    let planner = planner(&log);
    let rig = Rig::connected(planner.plan());
    let mut bench = Bench { log, planner, rig, programming: Programming::default() };
    let mut rounds = 0;
    while bench.log.model.metalinks_from(std::ops::Bound::Unbounded).next().is_some() {
        let given_back = bench.given_back();
        assert!((1..=GIVE_BACKS_AT_ONCE).contains(&given_back.len()));
        given_back.into_iter().for_each(|command| bench.log.must(command));
        bench.plan();
        rounds += 1;
    }
    assert_eq!(rounds, 4);
}
