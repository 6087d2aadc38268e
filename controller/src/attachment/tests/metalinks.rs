//! Connect, Renew, Release and Notice.

use super::*;

#[test]
fn a_metalink_is_told_of_once_the_switch_has_it() {
    let mut bench = setup();
    bench.programs = None;
    let mut station = bench.attached(3, 1);
    let wish = station.wish(VIDEO, 10, Lease::Short);
    assert_eq!(bench.sends(&mut station, &wish), Ok(vec![]));
    let Some(Effect::Await { token, metalink, request, .. }) = bench.effects.last().cloned() else { panic!("waits") };
    assert_eq!((metalink, request), (MetalinkId { gateway: HERE, mli: Mli(1) }, 1));
    // Repeated meanwhile, with another nonce: the answer is to that.
    assert_eq!(bench.sends(&mut station, &wish), Ok(vec![]));
    assert_eq!(bench.proposals(), 1);
    let effects = bench.attachments.programmed(bench.now, &bench.model, token, Ok(()));
    let answers = bench.carry_out(effects);
    let connected = Connected {
        mli: 1,
        metanet: VIDEO,
        rate: 10,
        lease: Lease::Short,
        lease_ms: SHORT_MS,
        request: 1,
        yields: false,
    };
    assert_eq!(answers, [(station.endpoint(), station.nonce, Kind::Connected(connected))]);
    assert_eq!(bench.attachments.flights.len(), 0);

    // The answer is lost: the same request is told of the same metalink, without the cluster.
    bench.programs = Some(Ok(()));
    bench.pass(Duration::from_millis(500));
    let again = Connected { lease_ms: SHORT_MS - 500, ..connected };
    assert_eq!(bench.asks(&mut station, &wish), Kind::Connected(again));
    assert_eq!(bench.proposals(), 1);
    // Another wish changes the metalink.
    let more = station.wish(VIDEO, 20, Lease::Long);
    let Kind::Connected(changed) = bench.asks(&mut station, &more) else { panic!("connected") };
    assert_eq!((changed.mli, changed.rate, changed.lease, changed.lease_ms), (1, 20, Lease::Long, 10 * SHORT_MS));
    assert_eq!(code(&bench.asks(&mut station, &wish)), RefusalCode::Replayed, "overtaken");
}

#[test]
fn a_claim_that_cannot_be_programmed_is_refused() {
    let mut bench = setup();
    bench.programs = Some(Err(NotProgrammed("the table is full".into())));
    let mut station = bench.attached(3, 1);
    let wish = station.wish(VIDEO, 10, Lease::Short);
    let answer = bench.asks(&mut station, &wish);
    let (code, refused) = refused(&answer);
    assert_eq!(code, RefusalCode::NotProgrammed);
    assert!(refused.text.contains("the table is full") && refused.retry_after_ms > 0, "{refused:?}");
}

#[test]
fn what_takes_too_long_is_given_up_and_found_again() {
    let mut bench = setup();
    bench.programs = None;
    let mut station = bench.attached(3, 1);
    let wish = station.wish(VIDEO, 10, Lease::Long);
    assert_eq!(bench.sends(&mut station, &wish), Ok(vec![]));
    bench.pass(PROGRAM_DEADLINE);
    assert_eq!(bench.attachments.flights.len(), 0);
    bench.programs = Some(Ok(()));
    assert!(matches!(bench.asks(&mut station, &wish), Kind::Connected(_)));
    assert_eq!(bench.proposals(), 1, "it was claimed all the time");
}

#[test]
fn each_refusal_of_the_cluster_says_why_and_what_would_be_granted() {
    let mut bench = setup();
    let mut station = bench.attached(3, 1);
    let mut asks = |bench: &mut Bench, metanet, rate| {
        let wish = station.wish(metanet, rate, Lease::Long);
        bench.asks(&mut station, &wish)
    };
    assert_eq!(code(&asks(&mut bench, VIDEO, 0)), RefusalCode::BadRate);
    let unknown = MetanetId { protocol: ProtocolId(9), provider: ProviderId(1) };
    assert_eq!(code(&asks(&mut bench, unknown, 1)), RefusalCode::NoSuchMetanet);
    for rate in [51, u64::MAX] {
        let answer = asks(&mut bench, VIDEO, rate);
        let (code, refused) = refused(&answer);
        assert_eq!((code, refused.fits), (RefusalCode::NoRoom, 50));
        assert!(refused.text.contains("50 bit/s would fit"), "{refused:?}");
    }
    assert!(matches!(asks(&mut bench, VIDEO, 50), Kind::Connected(_)), "the last bit");
    let mut elsewhere = bench.attached(5, 1);
    let wish = elsewhere.wish(VIDEO, 1, Lease::Long);
    assert_eq!(code(&bench.asks(&mut elsewhere, &wish)), RefusalCode::NoMetalinks);
}

#[test]
fn a_cluster_that_cannot_agree_is_busy() {
    let mut bench = setup();
    bench.is_stuck = true;
    let mut station = bench.attached(3, 1);
    let wish = station.wish(VIDEO, 10, Lease::Short);
    assert_eq!(bench.sends(&mut station, &wish), Ok(vec![]));
    let Some(Effect::Propose { token, .. }) = bench.effects.last().cloned() else { panic!("proposes") };
    let lost = Err(Unavailable("no quorum".into()));
    let effects = bench.attachments.committed(bench.now, &bench.model, token, lost);
    let answers = bench.carry_out(effects);
    assert_eq!(code(&answers[0].2), RefusalCode::ClusterUnavailable);
    assert!(refused(&answers[0].2).1.retry_after_ms > 0);
}

#[test]
fn leases_are_renewed_and_metalinks_given_back() {
    let mut bench = setup();
    let mut station = bench.attached(3, 1);
    let wish = station.wish(VIDEO, 10, Lease::Short);
    bench.asks(&mut station, &wish);
    let renew = Kind::Renew(Renew { mli: 1 });
    // What was renewed just now is not written again.
    let Kind::Connected(fresh) = bench.asks(&mut station, &renew) else { panic!("connected") };
    assert_eq!((fresh.lease_ms, bench.proposals()), (SHORT_MS, 1));
    bench.pass(Duration::from_millis(SHORT_MS / 2));
    let Kind::Connected(renewed) = bench.asks(&mut station, &renew) else { panic!("connected") };
    assert_eq!((renewed.mli, renewed.rate, renewed.lease_ms, bench.proposals()), (1, 10, SHORT_MS, 2));
    // The metanet has adjusted it meanwhile.
    let metalink = MetalinkId { gateway: HERE, mli: Mli(1) };
    bench.does(Command::AdjustMetalink { at: bench.now.unix_ms(), metalink, rate: 5 });
    bench.pass(Duration::from_millis(SHORT_MS / 2));
    let Kind::Connected(renewed) = bench.asks(&mut station, &renew) else { panic!("connected") };
    assert_eq!(renewed.rate, 5);

    let release = Kind::Release(Release { mli: 1 });
    for _ in 0..2 {
        let released = Kind::Released(dmux_wire::metalink::Released { mli: 1 });
        assert_eq!(bench.asks(&mut station, &release), released);
    }
    assert!(bench.model.metalink(metalink).is_none());
    assert_eq!(code(&bench.asks(&mut station, &renew)), RefusalCode::NoSuchMetalink);
}

#[test]
fn a_lease_that_has_ended_is_not_renewed() {
    let mut bench = setup();
    let mut station = bench.attached(3, 1);
    let wish = station.wish(VIDEO, 10, Lease::Short);
    bench.asks(&mut station, &wish);
    bench.pass(Duration::from_millis(SHORT_MS));
    // Before and after the cluster has taken note.
    let renew = Kind::Renew(Renew { mli: 1 });
    assert_eq!(code(&bench.asks(&mut station, &renew)), RefusalCode::NoSuchMetalink);
    assert_eq!(code(&bench.asks(&mut station, &wish)), RefusalCode::NoSuchMetalink);
    let notices = bench.does(Command::EndLeases { at: bench.now.unix_ms(), gateway: HERE });
    assert!(matches!(&notices[..], [(_, 0, Kind::Notice(notice))] if notice.rate == 0));
    assert_eq!(code(&bench.asks(&mut station, &renew)), RefusalCode::NoSuchMetalink);
    assert_eq!(code(&bench.asks(&mut station, &wish)), RefusalCode::Replayed, "a new claim has a new number");
    let again = station.wish(VIDEO, 10, Lease::Short);
    let Kind::Connected(connected) = bench.asks(&mut station, &again) else { panic!("connected") };
    assert_ne!(connected.mli, 1, "its number rests");
}

#[test]
fn endpoints_hear_what_others_do_to_their_metalinks() {
    let mut bench = setup();
    let mut station = bench.attached(3, 1);
    bench.connected(&mut station, 10);
    let metalink = MetalinkId { gateway: HERE, mli: Mli(1) };
    let adjusted = bench.does(Command::AdjustMetalink { at: bench.now.unix_ms(), metalink, rate: 7 });
    let [(to, 0, Kind::Notice(notice))] = &adjusted[..] else { panic!("{adjusted:?}") };
    assert_eq!((*to, notice.mli, notice.metanet, notice.rate), (station.endpoint(), 1, VIDEO, 7));
    assert_eq!(notice.lease_ms, 10 * SHORT_MS);
    let at = bench.now.unix_ms() + 1;
    assert_eq!(bench.does(Command::RenewMetalinks { at, metalinks: vec![metalink] }), [], "a renewal is no news");
    let revoked = bench.does(Command::ReleaseMetalink { at, metalink });
    assert!(matches!(&revoked[..], [(_, 0, Kind::Notice(notice))] if notice.rate == 0 && notice.mli == 1));
    // What the endpoint itself asks for is answered, and not told besides.
    let wish = station.wish(VIDEO, 20, Lease::Long);
    let Kind::Connected(connected) = bench.asks(&mut station, &wish) else { panic!("connected") };
    let less = station.wish(VIDEO, 10, Lease::Long);
    assert_eq!(bench.sends(&mut station, &less).unwrap().len(), 1);
    let release = Kind::Release(Release { mli: connected.mli });
    assert_eq!(bench.sends(&mut station, &release).unwrap().len(), 1);
}

/// The endpoint's metalinks are those of the replicated state, whoever restarted.
#[test]
fn a_controller_that_restarts_finds_the_metalinks_as_they_were() {
    let mut bench = setup();
    let mut station = bench.attached(3, 1);
    let before = bench.connected(&mut station, 10);
    let old = std::mem::replace(&mut bench, setup());
    (bench.model, bench.now) = (old.model, old.now);
    assert_eq!(bench.attachments.replicated_changed(bench.now, &bench.model), []);
    let renew = Kind::Renew(Renew { mli: before.mli });
    assert_eq!(code(&bench.asks(&mut station, &renew)), RefusalCode::NotAttached);
    assert!(matches!(bench.attach(&mut station), Kind::Attached(_)));
    let wish = Kind::Connect(Connect { metanet: VIDEO, rate: 10, lease: Lease::Long, request: station.request });
    assert_eq!(bench.asks(&mut station, &wish), Kind::Connected(before));
    assert_eq!(bench.proposals(), 0);
}

#[test]
fn the_last_bit_of_the_access_link_is_granted_and_no_more() {
    let mut bench = setup();
    for n in 1..=2 {
        let mut station = bench.attached(3, n);
        assert_eq!(bench.connected(&mut station, 50).rate, 50);
    }
    let mut late = bench.attached(4, 3);
    let wish = late.wish(VIDEO, 1, Lease::Long);
    let answer = bench.asks(&mut late, &wish);
    let (code, refused) = refused(&answer);
    assert_eq!((code, refused.fits, refused.retry_after_ms), (RefusalCode::NoRoom, 0, 0));
}

#[test]
fn a_long_term_wish_is_told_when_short_term_leases_have_made_room() {
    let mut bench = setup();
    let mut guests = [bench.attached(3, 1), bench.attached(3, 2)];
    for guest in &mut guests {
        let wish = guest.wish(VIDEO, 50, Lease::Short);
        assert!(matches!(bench.asks(guest, &wish), Kind::Connected(_)));
    }
    let mut resident = bench.attached(4, 3);
    let wish = resident.wish(VIDEO, 30, Lease::Long);
    // The guest that has to go is told so.
    let told = bench.sends(&mut resident, &wish).unwrap();
    let [Kind::Notice(notice), Kind::Refused(refused)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((notice.mli, notice.rate, notice.yields), (2, 50, true));
    assert_eq!((refused.code, u64::from(refused.retry_after_ms)), (RefusalCode::NoRoom, SHORT_MS));
    let renew = Kind::Renew(Renew { mli: 2 });
    let yields = bench.asks(&mut guests[1], &renew);
    assert_eq!((code(&yields), u64::from(super::refused(&yields).1.retry_after_ms)), (RefusalCode::Yields, SHORT_MS));
    bench.pass(Duration::from_millis(SHORT_MS));
    bench.does(Command::EndLeases { at: bench.now.unix_ms(), gateway: HERE });
    assert!(matches!(bench.asks(&mut resident, &wish), Kind::Connected(connected) if connected.rate == 30));
}
