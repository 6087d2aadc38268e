//! Simulated clusters to which one thing happens, in ten variations each.

mod common;

use std::future::Future;

use dmux_simtest::{Failure, a_clock_is_set, a_controller_is_wiped, claims_are_exact, keys_are_revoked};

const SEEDS: u64 = 10;

fn each<F: Future<Output = Result<(), Failure>> + 'static>(story: fn(u64) -> F) {
    for seed in 0..SEEDS {
        let told = common::simulated(seed, move || story(seed));
        if let Some(Err(failure)) = told.as_ref().filter(|told| told.is_err()) {
            panic!("{failure}");
        }
        assert!(told.is_some(), "seed {seed} panicked");
    }
}

#[test]
fn a_revocation_takes_effect_at_all_gateways_within_a_second_and_for_good() {
    each(keys_are_revoked);
}

#[test]
fn a_controller_that_was_wiped_is_replaced_and_nothing_is_lost() {
    each(a_controller_is_wiped);
}

#[test]
fn a_gateways_clock_that_is_set_costs_nobody_else_anything() {
    each(a_clock_is_set);
}

#[test]
fn many_that_claim_at_once_are_promised_all_there_is_and_no_more() {
    each(claims_are_exact);
}
