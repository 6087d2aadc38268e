use std::net::{Ipv4Addr, SocketAddrV4};

use dmux_wire::{ProtocolId, ProviderId};

use super::*;
use crate::model::{Command, Config, MAX_JOURNAL, Registration};

fn key(n: u8) -> RegistrationKey {
    RegistrationKey { protocol: ProtocolId(41), router: SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, n), 4000) }
}

fn registration(n: u8, gateway: u16, sequence: u64) -> Registration {
    Registration {
        key: key(n),
        provider: ProviderId(7),
        weight: 1,
        gateway: GatewayId(gateway),
        public_key: [n; 32],
        sequence,
        name: format!("r{n}"),
        registered_at: 0,
        not_after: u64::MAX,
        draining: None,
        chain: Vec::new(),
    }
}

fn gateway(id: u16, api: &str) -> Gateway {
    Gateway {
        id: GatewayId(id),
        name: format!("g{id}"),
        unicast: Ipv4Addr::new(192, 0, 2, id as u8),
        api: api.into(),
        node: id.into(),
    }
}

/// A model that is followed.
struct Followed {
    model: Model,
    follower: Follower,
}

impl Followed {
    fn new() -> Self {
        let mut model = Model::new();
        for id in [1, 2] {
            apply(&mut model, Command::PutGateway { at: 0, gateway: gateway(id, "") });
        }
        let follower = Follower::new(&model);
        Self { model, follower }
    }

    fn after(&mut self, command: Command) -> Vec<String> {
        apply(&mut self.model, command);
        self.follow()
    }

    fn follow(&mut self) -> Vec<String> {
        let happened = self.follower.follow(&self.model);
        assert_eq!(self.follower.applied(), self.model.applied());
        happened.iter().map(short).collect()
    }
}

fn apply(model: &mut Model, command: Command) {
    let reply = model.apply(model.applied() + 1, &command);
    assert_eq!(reply.refusal(), None);
}

fn register(registration: Registration) -> Command {
    Command::Register { at: 0, registration }
}

fn short(happening: &Happening) -> String {
    let name = |r: &Registered| r.registration.name.clone();
    match happening {
        Happening::Registered(r) => format!("registered {}", name(r)),
        Happening::Changed(r, terms) => format!("changed {}: {terms}", name(r)),
        Happening::Adopted { from, now } => format!("adopted {} from {from}", name(now)),
        Happening::Renewed(r) => format!("renewed {}", name(r)),
        Happening::Gone(r) => format!("gone {}", name(r)),
        Happening::GatewayAdded(g) => format!("gateway added {}", g.id),
        Happening::GatewayChanged(g) => format!("gateway changed {}", g.id),
        Happening::GatewayRemoved(g) => format!("gateway removed {}", g.id),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_registration_is_told_from_its_coming_to_its_going() {
    let mut f = Followed::new();
    assert_eq!(f.follow(), Vec::<String>::new());
    assert_eq!(f.after(register(registration(1, 1, 10))), ["registered r1"]);
    assert_eq!(f.after(register(registration(1, 1, 11))), ["renewed r1"]);
    let heavier = Registration { weight: 3, ..registration(1, 1, 12) };
    assert_eq!(f.after(register(heavier)), ["changed r1: weight 3 instead of 1"]);
    let adopt = Command::Adopt { at: 0, key: key(1), gateway: GatewayId(2), sequence: 13 };
    assert_eq!(f.after(adopt), ["adopted r1 from 1"]);
    assert_eq!(f.after(Command::Deregister { at: 0, key: key(1), sequence: 14 }), ["gone r1"]);
    assert_eq!(f.follow(), Vec::<String>::new(), "once");
}

#[test]
fn draining_is_a_change() {
    let mut f = Followed::new();
    f.after(register(registration(1, 1, 10)));
    let drain = |draining| Command::Drain { at: 5, key: key(1), draining };
    assert_eq!(f.after(drain(true)), ["changed r1: it drains: no new clients"]);
    assert_eq!(f.after(drain(false)), ["changed r1: it drains no more"]);
}

#[test]
fn gateways_and_the_configuration_are_followed() {
    let mut f = Followed::new();
    assert_eq!(f.after(Command::PutGateway { at: 0, gateway: gateway(3, "") }), ["gateway added 3"]);
    assert_eq!(f.after(Command::PutGateway { at: 0, gateway: gateway(3, "here") }), ["gateway changed 3"]);
    let config = Config { version: 1, ..Config::default() };
    assert_eq!(f.after(Command::PutConfig { at: 0, config }), ["Config(1)"]);
    assert_eq!(f.after(Command::RemoveGateway { at: 0, gateway: GatewayId(3) }), ["gateway removed 3"]);
}

#[test]
fn who_fell_behind_the_journal_hears_the_same_in_sum() {
    let mut f = Followed::new();
    f.after(register(registration(1, 1, 10)));
    f.after(register(registration(2, 1, 10)));
    apply(&mut f.model, Command::Deregister { at: 0, key: key(1), sequence: 11 });
    apply(&mut f.model, register(Registration { weight: 2, ..registration(2, 1, 11) }));
    for sequence in 0..MAX_JOURNAL as u64 {
        apply(&mut f.model, register(registration(3, 1, 10 + sequence)));
    }
    assert_eq!(f.model.changes_since(f.follower.applied()), None, "the journal is too short");
    assert_eq!(f.follow(), ["gone r1", "changed r2: weight 2 instead of 1", "registered r3"]);
}

#[test]
fn reachability_and_choices_are_told_when_they_change() {
    let before = Local::new(GatewayId(1));
    let mut now = before.clone();
    now.unreachable.insert(GatewayId(2));
    assert_eq!(observations(&before, &now), [Happening::Reachable(GatewayId(2), false)]);
    assert_eq!(observations(&now, &before), [Happening::Reachable(GatewayId(2), true)]);
    assert_eq!(observations(&now, &now), []);
    let mut held = now.clone();
    held.dampened.insert(key(1));
    assert_eq!(observations(&now, &held), [Happening::Dampened(key(1), true)]);
    assert_eq!(observations(&held, &now), [Happening::Dampened(key(1), false)]);

    let destination = |protocol| Destination::any(ProtocolId(protocol));
    let choice = |id| Choice { gateway: GatewayId(id), suspect: false, pool: vec![GatewayId(id)] };
    let before: Choices =
        [(destination(1), choice(1)), (destination(2), choice(1)), (destination(3), choice(1))].into_iter().collect();
    let now: Choices =
        [(destination(2), choice(1)), (destination(3), choice(2)), (destination(4), choice(1))].into_iter().collect();
    let changed = |protocol, before, now| Happening::Choice { destination: destination(protocol), before, now };
    let expected = [
        changed(1, Some(choice(1)), None),
        changed(3, Some(choice(1)), Some(choice(2))),
        changed(4, None, Some(choice(1))),
    ];
    assert_eq!(chosen_anew(&before, &now), expected);
}
