//! `GetLatencies`: how far the gateways are from each other, and how that is known.

use std::collections::{BTreeMap, BTreeSet};

use dmux_wire::GatewayId;

use crate::api::v1;
use crate::model::Model;
use crate::probing::PeerView;

/// Pairs that an answer lists at most: all pairs of a hundred gateways, each direction for itself.
pub(super) const MAX_PAIRS: usize = 10_000;

/// The pairs of gateways whose distance is known: recorded, else measured by this gateway (`own`) alone, else reckoned from
/// network coordinates (once, not for each direction). `only` leaves out all pairs that the gateway is not one of.
pub(super) fn latencies(
    model: &Model,
    own: GatewayId,
    peers: &BTreeMap<GatewayId, PeerView>,
    now_ms: u64,
    only: Option<GatewayId>,
) -> v1::Latencies {
    let wanted = |from, to| only.is_none_or(|only| only == from || only == to);
    let mut known = BTreeSet::new();
    let mut all = Vec::new();
    for (from, to, latency) in model.latencies().filter(|(from, to, _)| wanted(*from, *to)) {
        known.insert(pair(from, to));
        all.push(v1::Latency {
            rtt_us: latency.rtt_us,
            loss_permille: latency.loss_permille.into(),
            measured_at_ms: latency.measured_at,
            source: MEASURED.into(),
            ..row(model, from, to)
        });
    }
    for (&to, peer) in peers.iter().filter(|(to, _)| wanted(own, **to) && model.latency(own, **to).is_none()) {
        if let (Some(rtt), Some(_)) = (peer.rtt, model.gateway(to)) {
            known.insert(pair(own, to));
            all.push(v1::Latency {
                rtt_us: u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX),
                loss_permille: peer.loss_permille.into(),
                measured_at_ms: now_ms,
                source: PROBED.into(),
                ..row(model, own, to)
            });
        }
    }
    let mut left_out = all.len().saturating_sub(MAX_PAIRS) as u64;
    all.truncate(MAX_PAIRS);
    let placed: Vec<_> = model.gateways().filter(|g| model.coordinate(g.id).is_some()).map(|g| g.id).collect();
    for (n, &from) in placed.iter().enumerate() {
        for &to in placed[n + 1..].iter().filter(|&&to| wanted(from, to) && !known.contains(&(from, to))) {
            let row = row(model, from, to);
            let Some(rtt_us) = row.reckoned_us else { continue };
            if all.len() < MAX_PAIRS {
                all.push(v1::Latency { rtt_us, source: RECKONED.into(), ..row });
            } else {
                left_out += 1;
            }
        }
    }
    let coordinate = |id: GatewayId| {
        let coordinate = model.coordinate(id)?;
        Some(v1::Coordinate {
            gateway: id.0.into(),
            position_us: coordinate.position.to_vec(),
            height_us: coordinate.height,
            error_permille: coordinate.error_permille.into(),
            trusted: coordinate.is_trusted(),
        })
    };
    let coordinates = placed.into_iter().filter_map(coordinate).collect();
    v1::Latencies { latencies: all, coordinates, left_out }
}

/// Recorded in the replicated state.
const MEASURED: &str = "measured";
/// Measured by the asked gateway, and not recorded.
const PROBED: &str = "probed";
/// Computed from network coordinates.
const RECKONED: &str = "reckoned";

fn pair(a: GatewayId, b: GatewayId) -> (GatewayId, GatewayId) {
    (a.min(b), a.max(b))
}

/// What the coordinates of both say; nothing where one of them has none that is worth choosing by.
fn row(model: &Model, from: GatewayId, to: GatewayId) -> v1::Latency {
    let both = model.coordinate(from).zip(model.coordinate(to)).filter(|(a, b)| a.is_trusted() && b.is_trusted());
    v1::Latency {
        from: from.0.into(),
        to: to.0.into(),
        reckoned_us: both.map(|(a, b)| u32::try_from(a.distance_us(b)).unwrap_or(u32::MAX)),
        error_permille: both.map(|(a, b)| a.error_permille.max(b.error_permille).into()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::coordinates::Coordinate;
    use crate::model::{Command, Gateway, LatencySample};

    /// Gateways on a line, one for each error; the `n`th is `n` times 10 ms from the first, and has a height of 1 ms.
    fn model(errors: &[u16]) -> Model {
        let mut model = Model::new();
        let mut apply = |command| {
            let index = model.applied() + 1;
            assert_eq!(model.apply(index, &command).refusal(), None);
        };
        for (n, &error_permille) in (0_u16..).zip(errors) {
            let [high, low] = (n + 1).to_be_bytes();
            let gateway = Gateway {
                id: GatewayId(n + 1),
                name: format!("site-{n}"),
                unicast: Ipv4Addr::new(192, 0, high, low),
                api: String::new(),
                node: u64::from(n) + 1,
            };
            apply(Command::PutGateway { at: 0, gateway });
            let coordinate = Coordinate { position: [i32::from(n) * 10_000, 0, 0], height: 1_000, error_permille };
            apply(Command::RecordCoordinate { at: 0, from: GatewayId(n + 1), coordinate });
        }
        let samples = vec![LatencySample { to: GatewayId(2), rtt_us: 11_500, loss_permille: 3 }];
        apply(Command::RecordLatencies { at: 77, from: GatewayId(1), samples });
        model
    }

    fn told(answer: &v1::Latencies) -> Vec<(u32, u32, u32, &str)> {
        answer.latencies.iter().map(|l| (l.from, l.to, l.rtt_us, l.source.as_str())).collect()
    }

    #[test]
    fn each_pair_is_told_once_with_how_it_is_known() {
        // The fourth gateway's coordinate says nothing.
        let model = model(&[20, 50, 100, 900]);
        let peer = PeerView {
            rtt: Some(Duration::from_micros(20_900)),
            loss_permille: 0,
            distance: None,
            reachable: true,
            watched: false,
        };
        let peers = BTreeMap::from([(GatewayId(2), peer), (GatewayId(3), peer)]);
        let answer = latencies(&model, GatewayId(1), &peers, 99, None);
        assert_eq!(told(&answer), [(1, 2, 11_500, "measured"), (1, 3, 20_900, "probed"), (2, 3, 12_000, "reckoned")]);
        let [measured, probed, reckoned] = &answer.latencies[..] else { panic!("three") };
        assert_eq!((measured.reckoned_us, measured.error_permille), (Some(12_000), Some(50)));
        assert_eq!((measured.measured_at_ms, measured.loss_permille), (77, 3));
        assert_eq!((probed.reckoned_us, probed.error_permille, probed.measured_at_ms), (Some(22_000), Some(100), 99));
        assert_eq!(
            (reckoned.reckoned_us, reckoned.error_permille, reckoned.measured_at_ms),
            (Some(12_000), Some(100), 0)
        );
        let coordinates: Vec<_> = answer.coordinates.iter().map(|c| (c.gateway, c.position_us[0], c.trusted)).collect();
        assert_eq!(coordinates, [(1, 0, true), (2, 10_000, true), (3, 20_000, true), (4, 30_000, false)]);
        let of_one = latencies(&model, GatewayId(1), &peers, 99, Some(GatewayId(3)));
        assert_eq!(told(&of_one), [(1, 3, 20_900, "probed"), (2, 3, 12_000, "reckoned")]);
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let model = model(&[10; 200]);
        let answer = latencies(&model, GatewayId(1), &BTreeMap::new(), 0, None);
        assert_eq!((answer.latencies.len(), answer.left_out), (MAX_PAIRS, (200 * 199 / 2 - MAX_PAIRS) as u64));
        let of_one = latencies(&model, GatewayId(1), &BTreeMap::new(), 0, Some(GatewayId(9)));
        assert_eq!((of_one.latencies.len(), of_one.left_out), (199, 0));
    }
}
