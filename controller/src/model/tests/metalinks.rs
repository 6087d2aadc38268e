//! Metanets, access links, metalinks and leases: what is promised, to whom, and for how long.

use std::collections::BTreeSet;

use dmux_wire::MacAddr;

use super::*;
use crate::model::access::Access;
use crate::model::books::Books;

mod sequences;

const METANET: Destination = Destination { protocol: ProtocolId(41), provider: ProviderId(7) };
const OTHER: Destination = Destination { protocol: ProtocolId(42), provider: ProviderId::ANY };
const SHORT_MS: u64 = 60_000;
const LONG_MS: u64 = 3_600_000;

fn link_key(gateway: GatewayId, name: &str) -> LinkKey {
    LinkKey { gateway, name: name.into() }
}

fn access_link(gateway: GatewayId, name: &str, capacity: u64, endpoint_maximum: u64) -> AccessLink {
    let key = link_key(gateway, name);
    let (short_lease_ms, long_lease_ms) = (SHORT_MS, LONG_MS);
    let (authenticate, out_of_profile) = (false, OutOfProfile::Drop);
    AccessLink { key, capacity, endpoint_maximum, short_lease_ms, long_lease_ms, authenticate, out_of_profile }
}

fn metanet(id: Destination, admission: Admission) -> Metanet {
    let (name, allow, deny) = (format!("metanet {}", id.protocol), BTreeSet::new(), BTreeSet::new());
    Metanet { id, name, admission, allow, deny, multipoint: false }
}

fn endpoint(n: u8) -> Endpoint {
    Endpoint { port: 1 + u16::from(n) % 3, mac: MacAddr([2, 0, 0, 0, 1, n]) }
}

/// A long-term claim on the link "a" of gateway 1.
fn claim(n: u8, rate: u64, request: u64) -> Claim {
    Claim {
        link: link_key(G1, "a"),
        endpoint: endpoint(n),
        metanet: METANET,
        rate,
        lease: LeaseKind::Long,
        request,
        by_operator: false,
    }
}

fn short(claim: Claim) -> Claim {
    Claim { lease: LeaseKind::Short, ..claim }
}

impl Log {
    /// One access link of 100 bit/s, 60 of them for one endpoint at most; two metanets that admit everybody.
    fn with_access() -> Self {
        let mut log = Self::new();
        log.done(Command::PutAccessLink { at: 0, link: access_link(G1, "a", 100, 60) });
        for id in [METANET, OTHER] {
            log.done(Command::PutMetanet { at: 0, metanet: metanet(id, Admission::Automatic { up_to: 1_000 }) });
        }
        log
    }

    fn done(&mut self, command: Command) {
        assert_eq!(self.apply(command), Reply::Done);
    }

    fn claim(&mut self, at: u64, claim: Claim) -> Reply {
        self.apply(Command::ClaimMetalink { at, claim })
    }

    fn granted(&mut self, at: u64, claim: Claim) -> MetalinkId {
        let gateway = claim.link.gateway;
        match self.claim(at, claim) {
            Reply::Metalink { mli, .. } => MetalinkId { gateway, mli },
            other => panic!("{other:?}"),
        }
    }

    /// What would have fitted, and when more will.
    fn no_room(&mut self, at: u64, claim: Claim) -> (Limit, u64, Option<u64>) {
        match refused(self.claim(at, claim)) {
            Refusal::NoRoom { limit, fits, retry_at } => (limit, fits, retry_at),
            other => panic!("{other:?}"),
        }
    }

    fn renew(&mut self, at: u64, metalink: MetalinkId) -> Reply {
        match self.apply(Command::RenewMetalinks { at, metalinks: vec![metalink] }) {
            Reply::Each(mut each) => each.pop().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn adjust(&mut self, at: u64, metalink: MetalinkId, rate: u64) -> Reply {
        self.apply(Command::AdjustMetalink { at, metalink, rate })
    }

    fn release(&mut self, at: u64, metalink: MetalinkId) {
        self.done(Command::ReleaseMetalink { at, metalink });
    }

    fn end_leases(&mut self, at: u64) {
        self.done(Command::EndLeases { at, gateway: G1 });
    }
}

#[test]
fn the_last_bit_is_granted_and_the_next_is_not() {
    let mut log = Log::with_access();
    log.granted(1, claim(1, 60, 1));
    assert_eq!(log.no_room(2, claim(2, 41, 1)), (Limit::Link, 40, None));
    let b = log.granted(2, claim(2, 40, 1));
    assert_eq!(log.model.link_use(&link_key(G1, "a")).long, 100);
    assert_eq!(log.no_room(3, claim(3, 1, 1)), (Limit::Link, 0, None));
    log.release(4, b);
    assert_eq!(log.no_room(5, claim(3, 41, 1)), (Limit::Link, 40, None));
    log.granted(5, claim(3, 40, 1));
    assert_eq!(log.model.metanet_use(METANET), MetanetUse { metalinks: 2, rate: 100 });
}

#[test]
fn an_endpoint_has_its_maximum_with_all_its_metalinks() {
    let mut log = Log::with_access();
    assert_eq!(log.no_room(1, claim(1, 61, 1)), (Limit::Endpoint, 60, None));
    log.granted(1, claim(1, 50, 1));
    let to_other = |rate| Claim { metanet: OTHER, ..claim(1, rate, 1) };
    assert_eq!(log.no_room(2, to_other(11)), (Limit::Endpoint, 10, None));
    let other = log.granted(2, to_other(10));
    assert_eq!(refused(log.adjust(3, other, 11)), Refusal::NoRoom { limit: Limit::Endpoint, fits: 10, retry_at: None });
    log.granted(3, claim(2, 40, 1));
}

#[test]
fn a_retry_is_told_of_the_same_metalink_and_a_later_claim_changes_it() {
    let mut log = Log::with_access();
    let first = log.claim(1_000, claim(1, 30, 5));
    assert_eq!(log.claim(9_000, claim(1, 30, 5)), first, "a retry renews nothing");
    let id = log.granted(10_000, short(claim(1, 60, 6)));
    let metalink = log.model.metalink(id).unwrap().clone();
    assert_eq!((metalink.rate, metalink.lease, metalink.until), (60, LeaseKind::Short, 10_000 + SHORT_MS));
    assert_eq!(
        (metalink.granted_at, metalink.mli, log.model.metalinks_from(std::ops::Bound::Unbounded).count()),
        (1_000, Mli(1), 1)
    );
    assert_eq!(log.no_room(11_000, claim(1, 61, 7)), (Limit::Endpoint, 60, None));
    assert_eq!(log.model.metalink(id), Some(&metalink), "what is refused changes nothing");
    assert_eq!(refused(log.claim(12_000, claim(1, 30, 5))), Refusal::StaleSequence { have: 6, got: 5 });

    log.release(20_000, id);
    assert_eq!(refused(log.claim(21_000, short(claim(1, 60, 6)))), Refusal::StaleSequence { have: 6, got: 6 });
    assert_ne!(log.granted(22_000, claim(1, 60, 7)), id, "its number rests");
}

#[test]
fn the_policy_says_who_gets_how_much_without_the_operator() {
    let mut log = Log::with_access();
    let policy = |log: &mut Log, change: &dyn Fn(&mut Metanet)| {
        let mut metanet = metanet(METANET, Admission::Automatic { up_to: 20 });
        change(&mut metanet);
        log.done(Command::PutMetanet { at: 0, metanet });
    };
    let mac = |n| endpoint(n).mac;
    policy(&mut log, &|m| m.deny = [mac(1)].into());
    assert!(matches!(refused(log.claim(1, claim(1, 1, 1))), Refusal::NotAdmitted(why) if why.contains("deny")));
    assert_eq!(log.no_room(1, claim(2, 21, 1)), (Limit::Policy, 20, None));
    log.granted(1, claim(2, 20, 1));
    policy(&mut log, &|m| m.allow = [mac(3)].into());
    assert!(matches!(refused(log.claim(2, claim(2, 10, 2))), Refusal::NotAdmitted(why) if why.contains("allow")));
    assert_eq!(log.model.metanet_use(METANET).rate, 20, "what it has it keeps");
    log.granted(2, claim(3, 20, 1));
    policy(&mut log, &|m| m.admission = Admission::ByOperator);
    assert!(matches!(refused(log.claim(3, claim(4, 1, 1))), Refusal::NotAdmitted(why) if why.contains("operator")));
    let by_operator = |n, rate| Claim { by_operator: true, ..claim(n, rate, 1) };
    assert_eq!(log.no_room(3, by_operator(4, 61)), (Limit::Endpoint, 60, None), "capacity counts for all");
    log.granted(3, by_operator(4, 60));
}

#[test]
fn leases_end_unless_they_are_renewed_in_time() {
    let mut log = Log::with_access();
    let (a, b) = (log.granted(1_000, short(claim(1, 10, 1))), log.granted(2_000, claim(2, 10, 1)));
    assert_eq!(log.model.next_lease_end(G1), Some(1_000 + SHORT_MS));
    let last = 1_000 + SHORT_MS - 1;
    assert!(matches!(log.renew(last, a), Reply::Metalink { until, .. } if until == last + SHORT_MS));
    assert!(matches!(log.renew(5_000, a), Reply::Metalink { until, .. } if until == last + SHORT_MS), "overtaken");
    log.end_leases(last + SHORT_MS - 1);
    assert!(log.model.metalink(a).is_some());
    let ended = last + SHORT_MS;
    for reply in [log.renew(ended, a), log.adjust(ended, a, 1), log.claim(ended, short(claim(1, 10, 1)))] {
        assert_eq!(refused(reply), Refusal::LeaseEnded { at: ended });
    }
    log.end_leases(ended);
    assert_eq!((log.model.metalink(a), log.model.next_lease_end(G1)), (None, Some(2_000 + LONG_MS)));
    assert_eq!(refused(log.renew(ended, a)), Refusal::NoSuchMetalink);
    assert_eq!(refused(log.adjust(ended, a, 5)), Refusal::NoSuchMetalink);
    log.renew(ended, b);
    log.done(Command::EndLeases { at: u64::MAX, gateway: G2 });
    assert!(log.model.metalink(b).is_some(), "another gateway's");
}

#[test]
fn of_many_renewals_each_has_its_own_outcome() {
    let mut log = Log::with_access();
    let (a, b) = (log.granted(1_000, short(claim(1, 10, 1))), log.granted(2_000, short(claim(2, 10, 1))));
    let nobody = MetalinkId { gateway: G2, ..a };
    let at = 1_000 + SHORT_MS;
    let until = at + SHORT_MS;
    match log.apply(Command::RenewMetalinks { at, metalinks: vec![a, nobody, b] }) {
        Reply::Each(each) => {
            assert_eq!(each[0], Reply::Refused(Refusal::LeaseEnded { at }));
            assert_eq!(each[1], Reply::Refused(Refusal::NoSuchMetalink));
            assert!(matches!(each[2], Reply::Metalink { until: got, .. } if got == until), "{each:?}");
            assert_eq!(each.len(), 3);
        }
        other => panic!("{other:?}"),
    }
    let too_many = log.apply(Command::RenewMetalinks { at, metalinks: vec![b; MAX_RENEWALS + 1] });
    assert!(matches!(refused(too_many), Refusal::BadClaim(_)));
}

#[test]
fn rates_are_adjusted_up_as_far_as_there_is_room_and_down_always() {
    let mut log = Log::with_access();
    let (a, b) = (log.granted(1, claim(1, 50, 1)), log.granted(1, claim(2, 40, 1)));
    assert_eq!(refused(log.adjust(2, b, 51)), Refusal::NoRoom { limit: Limit::Link, fits: 50, retry_at: None });
    assert!(matches!(log.adjust(2, b, 50), Reply::Metalink { rate: 50, until, .. } if until == 1 + LONG_MS));
    log.adjust(3, a, 40);
    log.adjust(3, b, 60);
    assert_eq!(log.model.link_use(&link_key(G1, "a")).long, 100);
    assert!(matches!(refused(log.adjust(4, a, 0)), Refusal::BadClaim(_)));
}

#[test]
fn a_long_term_claim_has_the_youngest_short_term_leases_yield_but_no_lease_ends_early() {
    let mut log = Log::with_access();
    let old = log.granted(1_000, short(claim(1, 40, 1)));
    let young = log.granted(2_000, short(claim(2, 40, 1)));
    assert_eq!(
        log.no_room(3_000, short(claim(3, 30, 1))),
        (Limit::Link, 20, None),
        "short-term claims wait for nobody"
    );
    let retry_at = 4_000 + SHORT_MS;
    assert_eq!(log.no_room(4_000, claim(4, 50, 1)), (Limit::Link, 20, Some(retry_at)));
    let yields = |log: &Log, id| log.model.metalink(id).map(|m| m.yields);
    assert_eq!((yields(&log, old), yields(&log, young)), (Some(false), Some(true)), "one is enough");
    let link = link_key(G1, "a");
    let used = log.model.link_use(&link);
    assert_eq!((used.short, used.yielding, used.waiting), (80, 40, 50));

    // What is kept, nobody else gets; what somebody has, he keeps.
    assert_eq!(log.no_room(5_000, short(claim(3, 1, 2))), (Limit::Link, 0, None));
    assert_eq!(log.no_room(5_000, claim(5, 51, 1)), (Limit::Link, 0, None), "behind the first, it would never fit");
    assert!(log.renew(5_000, old).refusal().is_none());
    let until = 2_000 + SHORT_MS;
    assert_eq!(refused(log.renew(5_000, young)), Refusal::Yields { until });
    assert_eq!(refused(log.adjust(5_000, young, 41)), Refusal::Yields { until });
    assert_eq!(refused(log.claim(5_000, short(claim(2, 40, 2)))), Refusal::Yields { until });
    log.adjust(6_000, young, 39);
    assert!(log.model.metalink(young).is_some(), "it runs");

    log.end_leases(until);
    assert_eq!(log.no_room(until, short(claim(3, 11, 3))), (Limit::Link, 10, None));
    log.granted(retry_at, claim(4, 50, 1));
    let used = log.model.link_use(&link);
    assert_eq!((used.long, used.short, used.yielding, used.waiting), (50, 40, 0, 0));
}

#[test]
fn what_is_kept_for_a_claim_is_given_up_when_it_is_not_repeated() {
    let mut log = Log::with_access();
    log.granted(0, short(claim(1, 60, 1)));
    assert_eq!(log.no_room(1_000, claim(2, 50, 1)), (Limit::Link, 40, Some(1_000 + SHORT_MS)));
    let given_up = 1_000 + SHORT_MS + WAIT_GRACE_MS + 1;
    assert_eq!(log.no_room(given_up - 1, short(claim(3, 40, 1))).1, 0);
    log.granted(given_up, short(claim(3, 40, 2)));
}

#[test]
fn long_term_claims_wait_in_turn_and_only_so_many() {
    let mut log = Log::with_access();
    log.done(Command::PutAccessLink { at: 0, link: access_link(G1, "a", 1_000, 1_000) });
    log.granted(0, short(claim(0, 990, 1)));
    let waiting = MAX_WAITING as u8;
    for n in 1..=waiting {
        let fits = if n == 1 { 10 } else { 0 };
        assert_eq!(log.no_room(1, claim(n, 20, 1)), (Limit::Link, fits, Some(1 + SHORT_MS)), "{n}");
    }
    assert_eq!(log.no_room(1, claim(waiting + 1, 20, 1)), (Limit::Link, 0, None), "nobody else");
    log.end_leases(SHORT_MS);
    assert_eq!(
        log.no_room(1 + SHORT_MS, claim(waiting + 1, 700, 1)),
        (Limit::Link, 1_000 - 20 * u64::from(waiting), None)
    );
    for n in (1..=waiting).rev() {
        log.granted(1 + SHORT_MS, claim(n, 20, 1));
    }
    assert!(log.model.state.access.waiting.is_empty());
}

#[test]
fn an_owner_that_yields_comes_after_who_waits_and_others_keep_what_they_have() {
    let mut log = Log::with_access();
    let id = log.granted(0, short(claim(1, 50, 1)));
    let keeps = log.granted(0, claim(2, 40, 1));
    assert_eq!(log.no_room(1, claim(3, 60, 1)), (Limit::Link, 10, Some(1 + SHORT_MS)));
    assert_eq!(log.no_room(2, claim(1, 50, 2)), (Limit::Link, 0, None), "it yields to one that came before");
    assert_eq!(log.granted(2, claim(2, 40, 2)), keeps, "what it has is not kept for others");
    log.end_leases(SHORT_MS);
    assert!(log.model.metalink(id).is_none());
    log.granted(1 + SHORT_MS, claim(3, 60, 1));
}

#[test]
fn mlis_rest_before_another_metalink_has_them_and_cells_do_not() {
    let mut log = Log::with_access();
    let a = log.granted(1_000, claim(1, 10, 1));
    log.release(2_000, a);
    // All the way round: with the search starting before it, only rest keeps the number from being used.
    log.model.state.access.numbers.get_mut(&G1).unwrap().last_mli = dmux_wire::PROVISIONED_MLI_MAX;
    let b = log.granted(2_000 + MLI_REST_MS - 1, claim(2, 10, 1));
    assert_eq!((a.mli, b.mli), (Mli(1), Mli(2)));
    log.model.state.access.numbers.get_mut(&G1).unwrap().last_mli = dmux_wire::PROVISIONED_MLI_MAX;
    assert_eq!(log.granted(2_000 + MLI_REST_MS, claim(3, 10, 1)).mli, Mli(1));
    let cells: BTreeSet<_> = log.model.metalinks_from(std::ops::Bound::Unbounded).map(|m| m.cell).collect();
    assert_eq!(cells, [Cell(1), Cell(2)].into(), "the first one's comes last");
    assert!(log.model.state.access.numbers[&G1].gone.is_empty(), "nothing rests, nothing is remembered");
}

#[test]
fn a_gateway_has_as_many_metalinks_as_cells_and_all_are_exact() {
    let mut log = Log::with_access();
    let each = 1_000_001;
    let all = u64::from(METALINK_CELLS) * each;
    log.done(Command::PutAccessLink { at: 0, link: access_link(G1, "a", all + 1, all) });
    let numbered = |n: u32| {
        let [_, _, b, c] = n.to_be_bytes();
        let endpoint = Endpoint { port: 1 + (n % 500) as u16, mac: MacAddr([2, 0, 0, 1, b, c]) };
        Claim { endpoint, by_operator: true, ..claim(0, each, 1) }
    };
    let mut reply = |claim| {
        log.index += 1;
        log.model.apply(log.index, &Command::ClaimMetalink { at: 1, claim })
    };
    for n in 0..u32::from(METALINK_CELLS) {
        assert!(matches!(reply(numbered(n)), Reply::Metalink { .. }), "{n}");
    }
    let one_more = Claim { rate: 1, ..numbered(METALINK_CELLS.into()) };
    assert_eq!(refused(reply(one_more)), Refusal::TooManyMetalinks(METALINK_CELLS.into()));
    assert_eq!(log.model.link_use(&link_key(G1, "a")).long, all);
    let cells: BTreeSet<_> = log.model.metalinks_from(std::ops::Bound::Unbounded).map(|m| m.cell).collect();
    assert_eq!((cells.len(), cells.last()), (METALINK_CELLS.into(), Some(&Cell(METALINK_CELLS - 1))));
    let fewer = access_link(G1, "a", all - 1, all - 1);
    assert_eq!(
        refused(log.apply(Command::PutAccessLink { at: 2, link: fewer })),
        Refusal::BelowPromised { promised: all, to_one_endpoint: each }
    );
}

#[test]
fn what_cannot_be_is_refused_and_what_is_in_use_stays() {
    let mut log = Log::with_access();
    let good = claim(1, 10, 1);
    let station = |port, mac| Claim { endpoint: Endpoint { port, mac }, ..good.clone() };
    for bad in [
        Claim { rate: 0, ..good.clone() },
        station(0, endpoint(1).mac),
        station(511, endpoint(1).mac),
        station(1, MacAddr::BROADCAST),
        station(1, MacAddr::ZERO),
    ] {
        assert!(matches!(refused(log.claim(1, bad.clone())), Refusal::BadClaim(_)), "{bad:?}");
    }
    let elsewhere = Claim { link: link_key(G2, "a"), ..good.clone() };
    assert_eq!(refused(log.claim(1, elsewhere)), Refusal::NoSuchAccessLink);
    let unknown = Claim { metanet: Destination::any(ProtocolId(9)), ..good.clone() };
    assert_eq!(refused(log.claim(1, unknown)), Refusal::NoSuchMetanet);

    let put = |link| Command::PutAccessLink { at: 1, link };
    let sane = access_link(G1, "b", 10, 10);
    for bad in [
        access_link(G1, "", 10, 10),
        access_link(G1, "a b", 10, 10),
        access_link(G1, &"n".repeat(MAX_LINK_NAME + 1), 10, 10),
        access_link(G1, "b", 0, 0),
        access_link(G1, "b", 10, 0),
        access_link(G1, "b", 10, 11),
        access_link(G1, "b", MAX_RATE + 1, 10),
        AccessLink { short_lease_ms: MIN_LEASE_MS - 1, ..sane.clone() },
        AccessLink { long_lease_ms: MAX_LEASE_MS + 1, ..sane.clone() },
        AccessLink { short_lease_ms: 2_000, long_lease_ms: 1_999, ..sane.clone() },
    ] {
        assert!(matches!(refused(log.apply(put(bad.clone()))), Refusal::BadAccessLink(_)), "{bad:?}");
    }
    let nowhere = refused(log.apply(put(access_link(GatewayId(9), "a", 1, 1))));
    assert_eq!(nowhere, Refusal::UnknownGateway(GatewayId(9)));

    let sane = metanet(METANET, Admission::ByOperator);
    let listed = |n: usize| (0..n).map(|n| MacAddr::from_u64(n as u64)).collect::<BTreeSet<_>>();
    for bad in [
        Metanet { name: String::new(), ..sane.clone() },
        Metanet { name: "n".repeat(MAX_METANET_NAME + 1), ..sane.clone() },
        metanet(METANET, Admission::Automatic { up_to: 0 }),
        metanet(Destination::any(ProtocolId(0)), Admission::ByOperator),
        Metanet { deny: listed(MAX_LISTED + 1), ..sane.clone() },
        Metanet { allow: listed(2), deny: listed(1), ..sane.clone() },
    ] {
        let name = bad.name.clone();
        let reply = log.apply(Command::PutMetanet { at: 1, metanet: bad });
        assert!(matches!(refused(reply), Refusal::BadMetanet(_)), "{name}");
    }
    let full = Metanet { allow: listed(MAX_LISTED), ..sane };
    let bytes = postcard::to_stdvec(&Command::PutMetanet { at: 1, metanet: full }).unwrap();
    assert!(2 * bytes.len() < 64 << 10, "{} bytes: both lists have to fit into one command", bytes.len());

    let id = log.granted(1, good);
    let remove_metanet = Command::RemoveMetanet { at: 2, metanet: METANET };
    let remove_link = Command::RemoveAccessLink { at: 2, link: link_key(G1, "a") };
    let remove_gateway = Command::RemoveGateway { at: 2, gateway: G1 };
    assert_eq!(refused(log.apply(remove_metanet.clone())), Refusal::MetanetInUse { metalinks: 1 });
    assert_eq!(refused(log.apply(remove_link.clone())), Refusal::AccessLinkInUse { metalinks: 1 });
    let in_use = Refusal::GatewayHasAccessLinks { gateway: G1, links: 1 };
    assert_eq!(refused(log.apply(remove_gateway.clone())), in_use);
    log.release(3, id);
    for command in [remove_metanet, remove_link, remove_gateway] {
        log.done(command);
    }
}

#[test]
fn metanets_share_mlis_with_nobody_and_rest_them() {
    let mut log = Log::with_access();
    let put = |id, multipoint| {
        let metanet = Metanet { multipoint, ..metanet(id, Admission::ByOperator) };
        Command::PutMetanet { at: 1, metanet }
    };
    let first = *dmux_wire::SHARED_MLIS.start();
    for (id, multipoint, mli) in [
        (METANET, true, Some(first)),
        (OTHER, true, Some(first + 1)),
        (METANET, true, Some(first)),
        (METANET, false, None),
        (METANET, true, Some(first + 2)),
    ] {
        log.done(put(id, multipoint));
        assert_eq!(log.model.shared_mli(id), mli.map(Mli));
    }
    log.done(Command::RemoveMetanet { at: 2, metanet: OTHER });
    assert_eq!(log.model.shared_mli(OTHER), None);
    // All numbers round.
    for _ in 0..dmux_wire::SHARED_MLIS.count() {
        log.done(put(OTHER, true));
        let mli = log.model.shared_mli(OTHER).unwrap().0;
        assert!(dmux_wire::SHARED_MLIS.contains(&mli) && mli != first + 2, "{mli:#x}");
        log.done(put(OTHER, false));
    }
    assert_eq!(Model::restore(&log.model.snapshot().unwrap()).unwrap(), log.model);
    let applied = log.model.applied();
    log.done(put(METANET, false));
    assert_eq!(log.model.changes_since(applied), Some(vec![Change::SharedMlis]));
    log.done(put(METANET, false));
    assert_eq!(log.model.changes_since(applied + 1), Some(vec![]), "nothing is news");
}

#[test]
fn a_snapshot_that_promises_more_than_there_is_is_refused() {
    let mut log = Log::with_access();
    log.granted(1, claim(1, 60, 1));
    let restored = |change: &dyn Fn(&mut Access)| {
        let mut model = log.model.clone();
        change(&mut model.state.access);
        Model::restore(&model.snapshot().unwrap())
    };
    assert!(restored(&|_| {}).is_ok());
    let contradictions: [&dyn Fn(&mut Access); 6] = [
        &|access| access.links.values_mut().for_each(|link| link.capacity = 59),
        &|access| access.links.values_mut().for_each(|link| link.endpoint_maximum = 59),
        &|access| access.metalinks.values_mut().for_each(|metalink| metalink.mli = Mli(9)),
        &|access| access.metalinks.values_mut().for_each(|metalink| metalink.cell = Cell(METALINK_CELLS)),
        &|access| access.metanets.clear(),
        &|access| access.metanets.values_mut().for_each(|metanet| metanet.multipoint = true),
    ];
    for (n, change) in contradictions.into_iter().enumerate() {
        assert!(matches!(restored(change), Err(SnapshotError::Inconsistent(_))), "{n}");
    }
}
