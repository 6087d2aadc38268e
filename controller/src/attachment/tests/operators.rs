//! Metanets whose operators decide.

use super::*;

fn wish(bench: &Bench) -> Wish {
    let wishes = bench.attachments.wishes(|_| true);
    assert_eq!(wishes.len(), 1, "{wishes:?}");
    wishes[0].clone()
}

fn pending(kind: &Kind) -> bool {
    matches!(kind, Kind::Pending(pending) if u64::from(pending.retry_after_ms) == RETRY_PENDING.as_millis() as u64)
}

#[test]
fn the_operator_is_asked_once_and_grants_what_it_wants() {
    let mut bench = setup();
    let mut station = bench.attached(3, 1);
    let connect = station.wish(VOICE, 10, Lease::Short);
    for _ in 0..3 {
        assert!(pending(&bench.asks(&mut station, &connect)));
    }
    let asked: Vec<_> = bench.effects.iter().filter(|e| matches!(e, Effect::Ask(_))).collect();
    assert_eq!(asked.len(), 1);
    let wish = wish(&bench);
    assert_eq!((wish.claim.rate, wish.claim.endpoint, wish.claim.by_operator), (10, station.endpoint(), false));
    assert_eq!(bench.proposals(), 0);

    let grant = Verdict::Grant { rate: 7, lease: LeaseKind::Long };
    let anothers = bench.attachments.decided(bench.now, wish.id, |_| false, grant.clone());
    assert_eq!(anothers, Err(NotDecided::NoSuchWish));
    let effects = bench.attachments.decided(bench.now, wish.id, |_| true, grant.clone()).unwrap();
    bench.carry_out(effects);
    assert!(bench.effects.contains(&Effect::Close(wish.clone(), Closing::Granted)));
    assert_eq!(bench.attachments.decided(bench.now, wish.id, |_| true, grant), Err(NotDecided::NoSuchWish));
    let Kind::Connected(connected) = bench.asks(&mut station, &connect) else { panic!("connected") };
    assert_eq!((connected.metanet, connected.rate, connected.lease), (VOICE, 7, Lease::Long));
    assert!(bench.attachments.wishes(|_| true).is_empty());
}

#[test]
fn a_refusal_is_told_and_forgotten() {
    let mut bench = setup();
    let mut station = bench.attached(3, 1);
    let connect = station.wish(VOICE, 10, Lease::Short);
    assert!(pending(&bench.asks(&mut station, &connect)));
    let verdict = Verdict::Refuse { text: "not on Sundays".into(), retry_after: Duration::from_secs(5) };
    let id = wish(&bench).id;
    bench.attachments.decided(bench.now, id, |_| true, verdict).unwrap();
    let answer = bench.asks(&mut station, &connect);
    let (code, refused) = refused(&answer);
    assert_eq!(
        (code, refused.text.as_str(), refused.retry_after_ms),
        (RefusalCode::NotAdmitted, "not on Sundays", 5_000)
    );
    // A new wish is a new question, but not at once.
    let early = station.wish(VOICE, 6, Lease::Short);
    assert_eq!(super::code(&bench.asks(&mut station, &early)), RefusalCode::Busy);
    bench.pass(REASK_AFTER);
    let connect = station.wish(VOICE, 5, Lease::Short);
    assert!(pending(&bench.asks(&mut station, &connect)));
    assert_eq!(wish(&bench).claim.rate, 5);
}

#[test]
fn a_wish_that_nobody_decides_ends() {
    let mut bench = setup();
    let mut station = bench.attached(3, 1);
    let connect = station.wish(VOICE, 10, Lease::Short);
    assert!(pending(&bench.asks(&mut station, &connect)));
    bench.pass(OPERATOR_PATIENCE);
    assert!(bench.effects.iter().any(|e| matches!(e, Effect::Close(_, Closing::Withdrawn))));
    assert!(bench.attachments.wishes(|_| true).is_empty());
    assert_eq!(code(&bench.asks(&mut station, &connect)), RefusalCode::NotAdmitted);
    bench.pass(Duration::from_secs(30));
    assert!(pending(&bench.asks(&mut station, &connect)), "asked anew");
}

#[test]
fn a_grant_that_does_not_fit_is_a_refusal() {
    let mut bench = setup();
    let mut station = bench.attached(3, 1);
    let connect = station.wish(VOICE, 10, Lease::Long);
    assert!(pending(&bench.asks(&mut station, &connect)));
    let grant = Verdict::Grant { rate: 61, lease: LeaseKind::Long };
    let effects = bench.attachments.decided(bench.now, wish(&bench).id, |_| true, grant).unwrap();
    bench.carry_out(effects);
    let Some(Effect::Close(_, Closing::Failed(why))) = bench.effects.last() else { panic!("the operator is told") };
    assert!(why.contains("60 bit/s would fit"), "{why}");
    let answer = bench.asks(&mut station, &connect);
    assert_eq!((code(&answer), refused(&answer).1.fits), (RefusalCode::NoRoom, 60));
}

#[test]
fn a_later_wish_replaces_one_that_is_not_decided() {
    let mut bench = setup();
    let mut station = bench.attached(3, 1);
    let first = station.wish(VOICE, 10, Lease::Long);
    assert!(pending(&bench.asks(&mut station, &first)));
    let before = wish(&bench);
    let second = station.wish(VOICE, 20, Lease::Long);
    assert_eq!(code(&bench.asks(&mut station, &second)), RefusalCode::Busy, "operators are not asked all the time");
    bench.pass(REASK_AFTER);
    assert!(pending(&bench.asks(&mut station, &second)));
    assert!(bench.effects.contains(&Effect::Close(before.clone(), Closing::Withdrawn)));
    assert_eq!(wish(&bench).claim.rate, 20);
    assert_eq!(code(&bench.asks(&mut station, &first)), RefusalCode::Replayed);
    let verdict = Verdict::Grant { rate: 10, lease: LeaseKind::Long };
    let late = bench.attachments.decided(bench.now, before.id, |_| true, verdict);
    assert_eq!(late, Err(NotDecided::NoSuchWish));
}

#[test]
fn wishes_are_bounded() {
    let mut bench = setup();
    let metanet = |n: u16| MetanetId { protocol: ProtocolId(1_000 + n), provider: ProviderId(1) };
    for n in 0..=MAX_WISHES_PER_ENDPOINT as u16 {
        let id = Destination { protocol: metanet(n).protocol, provider: metanet(n).provider };
        let (allow, deny) = (BTreeSet::new(), BTreeSet::new());
        let (name, admission) = ("m".into(), Admission::ByOperator);
        bench.does(Command::PutMetanet {
            at: 0,
            metanet: Metanet { id, name, admission, allow, deny, multipoint: false },
        });
    }
    let mut greedy = bench.attached(3, 1);
    for n in 0..MAX_WISHES_PER_ENDPOINT as u16 {
        let connect = greedy.wish(metanet(n), 1, Lease::Short);
        assert!(pending(&bench.asks(&mut greedy, &connect)));
    }
    let one_more = greedy.wish(metanet(MAX_WISHES_PER_ENDPOINT as u16), 1, Lease::Short);
    assert_eq!(code(&bench.asks(&mut greedy, &one_more)), RefusalCode::Limit);
    let mut modest = bench.attached(3, 2);
    let connect = modest.wish(metanet(0), 1, Lease::Short);
    assert!(pending(&bench.asks(&mut modest, &connect)), "at nobody else's expense");
}

#[test]
fn a_wish_that_somebody_else_fulfils_is_withdrawn() {
    let mut bench = setup();
    let mut station = bench.attached(3, 1);
    let connect = station.wish(VOICE, 10, Lease::Short);
    assert!(pending(&bench.asks(&mut station, &connect)));
    let wish = wish(&bench);
    let claim = crate::model::Claim { by_operator: true, ..wish.claim.clone() };
    bench.does(Command::ClaimMetalink { at: bench.now.unix_ms(), claim });
    assert!(matches!(bench.asks(&mut station, &connect), Kind::Connected(_)));
    assert!(bench.effects.contains(&Effect::Close(wish, Closing::Withdrawn)));
    assert!(bench.attachments.wishes(|_| true).is_empty());
}

#[test]
fn an_operator_is_not_asked_for_what_was_overtaken() {
    let mut bench = setup();
    let mut station = bench.attached(3, 1);
    let old = station.wish(VOICE, 10, Lease::Long);
    let connect = station.wish(VOICE, 20, Lease::Long);
    assert!(pending(&bench.asks(&mut station, &connect)));
    let grant = Verdict::Grant { rate: 20, lease: LeaseKind::Long };
    let effects = bench.attachments.decided(bench.now, wish(&bench).id, |_| true, grant).unwrap();
    bench.carry_out(effects);
    assert_eq!(code(&bench.asks(&mut station, &old)), RefusalCode::Replayed);
    assert!(bench.attachments.wishes(|_| true).is_empty());
}
