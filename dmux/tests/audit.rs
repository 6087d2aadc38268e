//! A look at all that a full switch holds does not hold writes up.

mod support;

use std::net::Ipv4Addr;

use dmux_controller::plan::{Entry, Update};
use dmux_controller::runtime::{read_back, write};
use dmux_p4rt::ElectionId;
use dmux_p4rt::client::{Session, Target};
use dmux_tables::{RouterAction, RouterIndex, RouterKey};
use support::Gateway;

/// Routers that the switch holds, and as many places that may return.
const MANY: u32 = 50_000;
const BATCH: usize = 1_000;
/// Tries to write while a read is under way: on a busy machine one may come late.
const TRIES: u32 = 10;

fn tunnel(n: u32, port: u16) -> Entry {
    let dst = Ipv4Addr::from_bits(0x0a00_0000 + n);
    (RouterKey { router: RouterIndex(n) }, RouterAction::Tunnel { dst, dst_port: port }).into()
}

#[test]
fn a_write_is_answered_while_a_full_switch_is_being_read_back() {
    let gateway = Gateway::start(1);
    let endpoint = gateway.api.synced().endpoint;
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        // The gateway's own controller steps back, so that nothing else is written.
        let target = Target::new(format!("http://{endpoint}"), 1);
        let primary = Some(ElectionId::of_epoch(1_000_000, 9));
        let (session, _events) = Session::connect(target, primary).await.expect("a session");
        let before = read_back(&session).await.expect("the switch is read").entries.len();
        let inserts: Vec<_> = (1..=MANY).map(|n| Update::Insert(tunnel(n, 1), None)).collect();
        for batch in inserts.chunks(BATCH) {
            let written = write(&session, batch.to_vec()).await.expect("written");
            assert!(written.iter().all(Result::is_ok), "{written:?}");
        }
        let mut beside = 0;
        for port in 2..2 + TRIES as u16 {
            let reader = session.clone();
            let reading = tokio::spawn(async move { read_back(&reader).await });
            // It has begun when the first of its answers can have come.
            session.pipeline_cookie().await.expect("an answer");
            let written = write(&session, vec![Update::Modify(tunnel(7, port), None)]).await.expect("written");
            assert_eq!(written, [Ok(())]);
            beside += u32::from(!reading.is_finished());
            let read = reading.await.expect("it ends").expect("the switch is read");
            // One entry for each key, old or new.
            assert_eq!(read.entries.len(), before + MANY as usize);
            let seen = read.entries[&RouterKey { router: RouterIndex(7) }.into()];
            assert!(seen == tunnel(7, port) || seen == tunnel(7, port - 1), "{seen}");
            if beside > 0 {
                return;
            }
        }
        panic!("each of {TRIES} writes waited for a read to end");
    });
}
