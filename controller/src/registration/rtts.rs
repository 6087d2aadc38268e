//! Round trips between routers and this gateway, as the routers report them: what is worth telling the cluster.
//!
//! A report is signed like the keepalive that it comes in, and no more to be trusted than the router's weight: it moves
//! clients between routers of one (protocol, provider), and those that an authority lets serve everybody.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Policy, RegistrationKey, is_news};

use super::RegistrationView;

/// Between two reports: at most one replicated write in that time, whatever the round trips do.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Round trips of a report at most; the others wait for the next.
const MAX_SAMPLES: usize = 1_000;
/// Round trips that wait at most. A router that finds no room reports again with its next keepalive.
const MAX_WAITING: usize = 16_384;

/// What routers reported since the last report.
#[derive(Debug, Default)]
pub(super) struct Rtts {
    waiting: BTreeMap<RegistrationKey, u32>,
    next: Duration,
}

impl Rtts {
    /// A router reports its round trip, 0 for none. What nobody goes by, and what is no news, is not kept.
    pub(super) fn heard(&mut self, view: &dyn RegistrationView, key: RegistrationKey, rtt_us: u32) {
        let wanted = view.config().protocol(key.protocol).policy == Policy::ClosestRouter;
        let news = rtt_us > 0 && view.router_rtt(&key).is_none_or(|known| is_news(known, rtt_us));
        if !wanted || !news {
            self.waiting.remove(&key);
        } else if self.waiting.len() < MAX_WAITING || self.waiting.contains_key(&key) {
            self.waiting.insert(key, rtt_us);
        }
    }

    /// What to tell the cluster now.
    pub(super) fn report(&mut self, now: Duration) -> Vec<(RegistrationKey, u32)> {
        if self.waiting.is_empty() || now < self.next {
            return Vec::new();
        }
        self.next = now + REPORT_EVERY;
        let rest = self.waiting.keys().nth(MAX_SAMPLES).copied().map(|key| self.waiting.split_off(&key));
        std::mem::replace(&mut self.waiting, rest.unwrap_or_default()).into_iter().collect()
    }

    /// When the next report is due.
    pub(super) fn next(&self) -> Option<Duration> {
        (!self.waiting.is_empty()).then_some(self.next)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use dmux_wire::{GatewayId, ProtocolId, ProviderId};

    use super::*;
    use crate::model::{Command, Gateway, Model, ProtocolConfig, Registration};

    const P41: ProtocolId = ProtocolId(41);

    fn key(n: u16) -> RegistrationKey {
        let [high, low] = n.to_be_bytes();
        RegistrationKey { protocol: P41, router: SocketAddrV4::new(Ipv4Addr::new(203, 0, high, low), 4000) }
    }

    fn model(policy: Policy) -> Model {
        let mut model = Model::new();
        let mut config = model.config().clone();
        config.version = 1;
        config.protocols.insert(P41, ProtocolConfig { policy, ..ProtocolConfig::default() });
        let gateway = Gateway {
            id: GatewayId(1),
            name: String::new(),
            unicast: Ipv4Addr::new(192, 0, 2, 1),
            api: String::new(),
            node: 1,
        };
        let registration = Registration {
            key: key(1),
            provider: ProviderId(7),
            weight: 1,
            gateway: GatewayId(1),
            public_key: [0; 32],
            sequence: 1,
            name: String::new(),
            registered_at: 0,
            not_after: 0,
            draining: None,
            chain: Vec::new(),
        };
        let commands = [
            Command::PutConfig { at: 0, config },
            Command::PutGateway { at: 0, gateway },
            Command::Register { at: 0, registration },
        ];
        for (index, command) in (1..).zip(commands) {
            assert_eq!(model.apply(index, &command).refusal(), None);
        }
        model
    }

    #[test]
    fn only_news_is_told_and_only_where_it_matters() {
        let mut rtts = Rtts::default();
        rtts.heard(&model(Policy::Closest), key(1), 9_000);
        assert_eq!(rtts.report(Duration::ZERO), [], "nobody goes by it");

        let mut model = model(Policy::ClosestRouter);
        rtts.heard(&model, key(1), 0);
        assert_eq!(rtts.report(Duration::ZERO), [], "it has not measured yet");
        rtts.heard(&model, key(1), 9_000);
        let samples = rtts.report(Duration::ZERO);
        assert_eq!(samples, [(key(1), 9_000)]);
        model.apply(9, &Command::RecordRouterRtts { at: 0, gateway: GatewayId(1), samples });
        rtts.heard(&model, key(1), 9_800);
        assert_eq!(rtts.next(), None, "within a tenth");
        rtts.heard(&model, key(1), 12_000);
        assert_eq!(rtts.report(REPORT_EVERY / 2), [], "one report in that time");
        assert_eq!(rtts.next(), Some(REPORT_EVERY));
        rtts.heard(&model, key(1), 9_100);
        assert_eq!(rtts.report(REPORT_EVERY), [], "it was a peak");
    }

    #[test]
    fn a_report_is_bounded_and_the_rest_follows() {
        let model = model(Policy::ClosestRouter);
        let mut rtts = Rtts::default();
        for n in 0..1_500 {
            rtts.heard(&model, key(n), 9_000);
        }
        assert_eq!(rtts.report(Duration::ZERO).len(), MAX_SAMPLES);
        assert_eq!(rtts.report(REPORT_EVERY).len(), 500);
        assert_eq!(rtts.report(REPORT_EVERY * 2), []);
    }
}
