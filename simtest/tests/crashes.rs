//! A controller crashes at each step of what it does for an endpoint: each of them enumerated, for each controller.

mod common;

use dmux_simtest::{Crash, FaultPoint, Request, an_endpoint_dies, nothing_leaks};

/// Who leads the cluster, and what the crash leaves on a disk, depends on the seed.
const SEEDS: u64 = 3;

fn at_every_point(request: Request) {
    for point in FaultPoint::ALL.into_iter().filter(|&point| request.passes(point)) {
        for victim in 0..3 {
            let crash = Crash { request, point, victim };
            for seed in 0..SEEDS {
                let told = common::simulated(seed, move || nothing_leaks(seed, crash));
                if let Some(Err(failure)) = told.as_ref().filter(|told| told.is_err()) {
                    panic!("{failure}");
                }
                assert!(told.is_some(), "seed {seed}, {crash} panicked");
            }
        }
    }
}

#[test]
fn what_a_dead_endpoint_had_is_back_when_its_lease_ends_and_not_before() {
    for seed in 0..10 {
        let told = common::simulated(seed, move || an_endpoint_dies(seed));
        if let Some(Err(failure)) = told.as_ref().filter(|told| told.is_err()) {
            panic!("{failure}");
        }
        assert!(told.is_some(), "seed {seed} panicked");
    }
}

#[test]
fn a_claim_that_a_crash_interrupts_is_granted_once() {
    at_every_point(Request::Connect);
}

#[test]
fn a_renewal_that_a_crash_interrupts_is_made_in_time() {
    at_every_point(Request::Renew);
}

#[test]
fn a_release_that_a_crash_interrupts_leaves_nothing() {
    at_every_point(Request::Release);
}
