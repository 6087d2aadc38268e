//! Any sequence of commands: what is promised adds up, fits, and is exact.

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;

use super::*;

/// A step; times are counted from the step before, numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Step {
    Claim { claim: Claim, repeat: bool },
    Renew(usize),
    Adjust(usize, u64),
    Release(usize),
    EndLeases(GatewayId),
    PutLink(AccessLink),
    RemoveLink(LinkKey),
    PutMetanet(Metanet),
    RemoveMetanet(Destination),
}

fn links() -> impl Strategy<Value = LinkKey> {
    prop_oneof![
        3 => Just(link_key(G1, "a")),
        1 => Just(link_key(G1, "b")),
        1 => Just(link_key(G2, "a")),
    ]
}

fn ids() -> impl Strategy<Value = Destination> {
    prop_oneof![Just(METANET), Just(OTHER)]
}

fn claims() -> impl Strategy<Value = Claim> {
    let rate = prop_oneof![4 => 1..30_u64, 1 => 0..130_u64];
    (links(), 0..5_u8, ids(), rate, any::<bool>(), prop::bool::weighted(0.7)).prop_map(
        |(link, n, metanet, rate, long, by_operator)| Claim {
            link,
            endpoint: endpoint(n),
            metanet,
            rate,
            lease: if long { LeaseKind::Long } else { LeaseKind::Short },
            request: 0,
            by_operator,
        },
    )
}

fn steps() -> impl Strategy<Value = Step> {
    let put_link = (links(), 20..120_u64, 10..70_u64, 1..60_u64).prop_map(|(key, capacity, most, lease)| AccessLink {
        key,
        capacity,
        endpoint_maximum: most.min(capacity),
        short_lease_ms: lease * 1_000,
        long_lease_ms: lease * 3_000,
        authenticate: false,
        out_of_profile: OutOfProfile::Drop,
    });
    let put_metanet = (ids(), 0..50_u64, 0..5_u8).prop_map(|(id, up_to, denied)| Metanet {
        deny: [endpoint(denied).mac].into(),
        multipoint: denied % 2 == 0,
        ..metanet(id, if up_to < 5 { Admission::ByOperator } else { Admission::Automatic { up_to } })
    });
    prop_oneof![
        12 => (claims(), prop::bool::weighted(0.2)).prop_map(|(claim, repeat)| Step::Claim { claim, repeat }),
        5 => any::<usize>().prop_map(Step::Renew),
        4 => (any::<usize>(), 0..80_u64).prop_map(|(n, rate)| Step::Adjust(n, rate)),
        3 => any::<usize>().prop_map(Step::Release),
        3 => prop_oneof![Just(G1), Just(G2)].prop_map(Step::EndLeases),
        2 => put_link.prop_map(Step::PutLink),
        1 => links().prop_map(Step::RemoveLink),
        2 => put_metanet.prop_map(Step::PutMetanet),
        1 => ids().prop_map(Step::RemoveMetanet),
    ]
}

impl Log {
    fn all(&self) -> Vec<Metalink> {
        self.model.metalinks_from(Bound::Unbounded).cloned().collect()
    }

    /// The sums, added up anew from nothing but the metalinks.
    fn adds_up(&self) {
        let access = &self.model.state.access;
        let (mut links, mut endpoints, mut metanets) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (mut mlis, mut cells, mut owners) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for m in self.all() {
            let used: &mut LinkUse = links.entry(m.link.clone()).or_default();
            match m.lease {
                LeaseKind::Long => used.long += m.rate,
                LeaseKind::Short => used.short += m.rate,
            }
            used.yielding += if m.yields { m.rate } else { 0 };
            used.metalinks += 1;
            *endpoints.entry((m.link.clone(), m.endpoint)).or_insert(0) += m.rate;
            let of_metanet: &mut MetanetUse = metanets.entry(m.metanet).or_default();
            *of_metanet = MetanetUse { metalinks: of_metanet.metalinks + 1, rate: of_metanet.rate + m.rate };
            assert!(mlis.insert(m.id()) && cells.insert((m.link.gateway, m.cell)) && owners.insert(m.owner()));
            assert!(m.lease == LeaseKind::Short || !m.yields, "{m:?}");
        }
        for link in self.model.access_links() {
            let expected = links.remove(&link.key).unwrap_or_default();
            let used = self.model.link_use(&link.key);
            assert_eq!(LinkUse { waiting: 0, ..used }, expected);
            assert!(used.long + used.short <= link.capacity, "{link:?} promises {used:?}");
            for ((_, endpoint), rate) in endpoints.iter().filter(|((key, _), _)| *key == link.key) {
                assert!(*rate <= link.endpoint_maximum, "{endpoint} has {rate} of {link:?}");
            }
        }
        assert!(links.is_empty(), "an access link went before its metalinks");
        for metanet in self.model.metanets() {
            assert_eq!(self.model.metanet_use(metanet.id), metanets.remove(&metanet.id).unwrap_or_default());
        }
        assert!(metanets.is_empty());
        let resting = access
            .numbers
            .iter()
            .flat_map(|(&gateway, n)| n.resting.keys().map(move |&(_, mli)| MetalinkId { gateway, mli }));
        for id in resting {
            assert!(!mlis.contains(&id), "{id:?} does not rest");
        }
        assert_eq!(Books::of(access).as_ref(), Ok(&self.model.books), "the books are those of the metalinks");
    }

    /// `fits` was told at `at`: so much is granted, and one more is not.
    fn is_exact(&self, at: u64, claim: &Claim, fits: u64) {
        let asks = |rate| {
            let mut model = self.model.clone();
            model.apply(self.index + 1, &Command::ClaimMetalink { at, claim: Claim { rate, ..claim.clone() } })
        };
        if fits > 0 {
            assert!(matches!(asks(fits), Reply::Metalink { rate, .. } if rate == fits), "{claim:?}: {:?}", asks(fits));
        }
        let one_more = asks(fits + 1);
        assert!(matches!(one_more, Reply::Refused(Refusal::NoRoom { fits: told, .. }) if told == fits), "{one_more:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn promises_add_up_and_fit_to_the_last_bit(steps in prop::collection::vec((0..20_000_u64, steps()), 1..60)) {
        let mut log = Log::with_access();
        let (mut at, mut request) = (1_000, 0);
        let mut freed: BTreeMap<MetalinkId, u64> = BTreeMap::new();
        for (later, step) in steps {
            at += later;
            let before = log.all();
            let nth = |n: usize| before.get(n % before.len().max(1)).map_or(MetalinkId { gateway: G1, mli: Mli(77) }, Metalink::id);
            let ended = match &step { Step::EndLeases(gateway) => Some(*gateway), _ => None };
            let released = match &step { Step::Release(n) => Some(nth(*n)), _ => None };
            match step {
                Step::Claim { mut claim, repeat } => {
                    request += 1;
                    claim.request = request;
                    // `apply` itself tries each command twice and compares the states.
                    let reply = log.claim(at, claim.clone());
                    match &reply {
                        Reply::Metalink { mli, rate, .. } => {
                            prop_assert_eq!(*rate, claim.rate);
                            let id = MetalinkId { gateway: claim.link.gateway, mli: *mli };
                            let new = !before.iter().any(|m| m.id() == id);
                            prop_assert!(!new || freed.get(&id).is_none_or(|&gone| gone + MLI_REST_MS <= at));
                            if repeat {
                                prop_assert_eq!(log.claim(at + 1, claim), reply.clone());
                            }
                        }
                        Reply::Refused(Refusal::NoRoom { fits, retry_at, .. }) => {
                            prop_assert!(claim.rate > *fits);
                            prop_assert!(retry_at.is_none() || claim.lease == LeaseKind::Long);
                            log.is_exact(at, &claim, *fits);
                        }
                        Reply::Refused(_) => {}
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
                Step::Renew(n) => {
                    let old = before.iter().find(|m| m.id() == nth(n));
                    let reply = log.renew(at, nth(n));
                    let may = old.is_some_and(|old| at < old.until && !old.yields);
                    prop_assert_eq!(reply.refusal().is_none(), may, "{:?}: {:?}", old, reply);
                }
                Step::Adjust(n, rate) => {
                    let old = before.iter().find(|m| m.id() == nth(n));
                    let reply = log.adjust(at, nth(n), rate);
                    let fewer = old.is_some_and(|old| at < old.until && (1..=old.rate).contains(&rate));
                    prop_assert!(!fewer || reply.refusal().is_none(), "{reply:?}");
                }
                Step::Release(n) => log.release(at, nth(n)),
                Step::EndLeases(gateway) => log.done(Command::EndLeases { at, gateway }),
                Step::PutLink(link) => { log.apply(Command::PutAccessLink { at, link }); }
                Step::RemoveLink(link) => { log.apply(Command::RemoveAccessLink { at, link }); }
                Step::PutMetanet(metanet) => { log.apply(Command::PutMetanet { at, metanet }); }
                Step::RemoveMetanet(metanet) => { log.apply(Command::RemoveMetanet { at, metanet }); }
            }
            log.adds_up();
            for old in before {
                if log.model.metalink(old.id()).is_none() {
                    let due = ended == Some(old.link.gateway) && old.until <= at;
                    prop_assert!(due || released == Some(old.id()), "{old:?} ended before its time");
                    freed.insert(old.id(), at);
                }
            }
        }
        let restored = Model::restore(&log.model.snapshot().unwrap()).unwrap();
        prop_assert_eq!(&restored, &log.model);
        prop_assert_eq!(&restored.books, &log.model.books);
    }
}
