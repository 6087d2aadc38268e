//! How far off network coordinates are on measured maps: the Rocketfuel backbones, read from a folder that is given.
//!
//! Gateways stand at the routers of a map (one a city, so that distances are not all of the same building); the round trip
//! between two is twice the shortest path by the map's latencies. Each gateway runs the controller's own
//! [`Mapper`]: it probes its neighbours once a second, with noise, and publishes as it would. Then all pairs are compared,
//! and for each client gateway and some candidates, whether the closest by coordinates is the closest.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dmux_controller::coordinates::{Coordinate, Mapper};
use dmux_wire::GatewayId;

/// Simulated time of one map.
const SECONDS: u64 = 600;
/// The names of the maps, by number of the autonomous system.
const MAPS: [(&str, &str); 6] = [
    ("1221", "Telstra"),
    ("1239", "Sprint"),
    ("1755", "Ebone"),
    ("3257", "Tiscali"),
    ("3967", "Exodus"),
    ("6461", "Abovenet"),
];
/// Candidates that serve a destination.
const CANDIDATES: [usize; 3] = [3, 5, 10];
const TRIALS: usize = 20_000;

/// Cities and the latencies of the links between them, ms.
#[derive(Debug, Default)]
struct Map {
    links: BTreeMap<String, BTreeMap<String, f64>>,
}

impl Map {
    /// Adds the lines of a file: `City,+Region+Id City,+Region+Id ms`.
    fn read(&mut self, path: &Path) -> Result<()> {
        let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        for (n, line) in text.lines().enumerate() {
            let fields: Vec<_> = line.split_ascii_whitespace().collect();
            let [a, b, ms] = fields[..] else {
                bail!("{} line {}: not two cities and a number", path.display(), n + 1)
            };
            let ms: f64 = ms.parse().with_context(|| format!("{} line {}", path.display(), n + 1))?;
            let (a, b) = (city(a), city(b));
            if a == b {
                continue;
            }
            for (from, to) in [(a, b), (b, a)] {
                let known = self.links.entry(from.to_owned()).or_default().entry(to.to_owned()).or_insert(ms);
                *known = known.min(ms);
            }
        }
        Ok(())
    }

    /// Round trips in µs between all cities that reach each other (the largest such group), by shortest paths.
    fn round_trips(&self) -> Vec<Vec<f64>> {
        let cities: Vec<_> = self.links.keys().collect();
        let from: Vec<_> = cities.iter().map(|city| self.shortest(city)).collect();
        let largest = from.iter().max_by_key(|reached| reached.len());
        let Some(largest) = largest else { return Vec::new() };
        let members: Vec<_> =
            cities.iter().zip(&from).filter(|(city, _)| largest.contains_key(city.as_str())).collect();
        let row =
            |reached: &BTreeMap<&str, f64>| members.iter().map(|(to, _)| 2_000.0 * reached[to.as_str()]).collect();
        members.iter().map(|(_, reached)| row(reached)).collect()
    }

    /// Dijkstra.
    fn shortest<'a>(&'a self, start: &'a str) -> BTreeMap<&'a str, f64> {
        let mut done = BTreeMap::new();
        // Whole µs, since floats have no order.
        let mut queue = BinaryHeap::from([(Reverse(0_u64), start)]);
        while let Some((Reverse(us), city)) = queue.pop() {
            if done.contains_key(city) {
                continue;
            }
            done.insert(city, us as f64 / 1000.0);
            for (next, ms) in self.links.get(city).into_iter().flatten() {
                queue.push((Reverse(us + (ms * 1000.0) as u64), next));
            }
        }
        done
    }
}

/// The city of a router: its name without the number that the map appends.
fn city(router: &str) -> &str {
    router.trim_end_matches(|c: char| c.is_ascii_digit())
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// What came out for one map.
struct Outcome {
    gateways: usize,
    /// Relative errors of all pairs, sorted.
    errors: Vec<f64>,
    /// For each number of candidates: how often the closest was chosen, and how much longer the way was when not (p50, p90).
    choices: Vec<(usize, f64, f64, f64)>,
    /// Publications a gateway and minute in the last half.
    writes: f64,
}

fn simulate(rtts: &[Vec<f64>]) -> Outcome {
    let count = rtts.len();
    let id = |n: usize| GatewayId(n as u16 + 1);
    let mut random = Random(1);
    let mut mappers: Vec<_> = (0..count).map(|n| Mapper::new(id(n), n as u64)).collect();
    let mut published: Vec<(GatewayId, Option<Coordinate>)> = (0..count).map(|n| (id(n), None)).collect();
    let mut late_writes = 0_u64;
    for second in 1..=SECONDS {
        let now = Duration::from_secs(second);
        let mut news = Vec::new();
        for (n, mapper) in mappers.iter_mut().enumerate() {
            // No map is small enough to probe all pairs.
            let neighbours: BTreeSet<_> = mapper.neighbours(now, &published, 0);
            for to in neighbours {
                let peer = usize::from(to.0) - 1;
                // A tenth of the answers has waited somewhere, up to 50 ms.
                let waited =
                    if random.next().is_multiple_of(10) { random.next() % 50_000 } else { random.next() % 300 };
                let rtt = Duration::from_micros(rtts[n][peer] as u64 + waited);
                mapper.sample(now, to, rtt, published[peer].1.as_ref());
            }
            news.extend(mapper.publish(now).map(|coordinate| (n, coordinate)));
        }
        if second > SECONDS / 2 {
            late_writes += news.len() as u64;
        }
        for (n, coordinate) in news {
            published[n].1 = Some(coordinate);
        }
    }
    let reckoned = |a: usize, b: usize| match (&published[a].1, &published[b].1) {
        (Some(a), Some(b)) => a.distance_us(b) as f64,
        _ => f64::INFINITY,
    };
    let mut errors = Vec::new();
    for (a, row) in rtts.iter().enumerate() {
        errors.extend(row.iter().take(a).enumerate().map(|(b, rtt)| (reckoned(a, b) - rtt).abs() / rtt.max(1.0)));
    }
    errors.sort_by(f64::total_cmp);
    let choices = CANDIDATES.iter().filter(|&&k| k < count).map(|&k| choose(rtts, &reckoned, k, &mut random)).collect();
    let minutes = SECONDS as f64 / 120.0;
    Outcome { gateways: count, errors, choices, writes: late_writes as f64 / count as f64 / minutes }
}

fn choose(
    rtts: &[Vec<f64>],
    reckoned: &impl Fn(usize, usize) -> f64,
    k: usize,
    random: &mut Random,
) -> (usize, f64, f64, f64) {
    let (mut right, mut stretches) = (0_usize, Vec::new());
    for _ in 0..TRIALS {
        let client = random.below(rtts.len());
        let mut candidates = BTreeSet::new();
        while candidates.len() < k {
            let candidate = random.below(rtts.len());
            if candidate != client {
                candidates.insert(candidate);
            }
        }
        let closest = |distance: &dyn Fn(usize) -> f64| {
            candidates.iter().copied().min_by(|&a, &b| distance(a).total_cmp(&distance(b))).unwrap_or(client)
        };
        let best = rtts[client][closest(&|c| rtts[client][c])];
        let chosen = rtts[client][closest(&|c| reckoned(client, c))];
        if chosen <= best {
            right += 1;
        } else {
            stretches.push(chosen / best.max(1.0));
        }
    }
    stretches.sort_by(f64::total_cmp);
    (k, right as f64 / TRIALS as f64, at(&stretches, 0.5), at(&stretches, 0.9))
}

fn at(sorted: &[f64], share: f64) -> f64 {
    sorted.get(((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1))).copied().unwrap_or(1.0)
}

/// Prints a table of the maps in a folder (`ASN.latencies`), and of all of them joined where they share a city.
pub fn run(folder: &Path) -> Result<()> {
    let mut joined = Map::default();
    let mut rows = Vec::new();
    for (number, name) in MAPS {
        let path = folder.join(format!("{number}.latencies"));
        if !path.is_file() {
            continue;
        }
        let mut map = Map::default();
        map.read(&path)?;
        joined.read(&path)?;
        rows.push((format!("{number} {name}"), map.round_trips()));
    }
    ensure!(!rows.is_empty(), "{}: no ASN.latencies there, such as 1239.latencies", folder.display());
    rows.push((format!("{} joined", rows.len()), joined.round_trips()));
    let heads: Vec<_> = CANDIDATES.iter().map(|k| format!(" closest of {k} | stretch else, p50 / p90 |")).collect();
    println!("| map | gateways | error p50 | error p90 |{} writes a minute |", heads.concat());
    println!("| --- | ---: | ---: | ---: |{} ---: |", " ---: | ---: |".repeat(CANDIDATES.len()));
    for (name, rtts) in rows {
        let Outcome { gateways, errors, choices, writes } = simulate(&rtts);
        let (median, p90) = (at(&errors, 0.5), at(&errors, 0.9));
        let cells: Vec<_> = choices
            .iter()
            .map(|(_, right, p50, p90)| format!(" {:.1} % | {p50:.2} / {p90:.2} |", right * 100.0))
            .collect();
        println!("| {name} | {gateways} | {median:.3} | {p90:.3} |{} {writes:.2} |", cells.concat());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_twice_the_shortest_path_between_cities() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("1.latencies");
        std::fs::write(&file, "A,+X1 A,+X2 1\nA,+X2 B3 5\nB3 A,+X1 7\nB4 C,+Y9 2\nA,+X1 C,+Y9 9\nfar1 off2 3\n")
            .unwrap();
        let mut map = Map::default();
        map.read(&file).unwrap();
        assert_eq!(map.round_trips(), [[0.0, 10_000.0, 14_000.0], [10_000.0, 0.0, 4_000.0], [14_000.0, 4_000.0, 0.0]]);
        std::fs::write(&file, "A B\n").unwrap();
        assert!(map.read(&file).unwrap_err().to_string().contains("line 1"));
    }

    #[test]
    fn coordinates_of_a_line_of_cities_are_nearly_exact() {
        let rtts: Vec<Vec<f64>> =
            (0..40_i32).map(|a| (0..40_i32).map(|b| 5_000.0 * f64::from((a - b).abs())).collect()).collect();
        let outcome = simulate(&rtts);
        assert!(at(&outcome.errors, 0.5) < 0.1, "{}", at(&outcome.errors, 0.5));
        let (k, right, ..) = outcome.choices[0];
        assert!(k == 3 && right > 0.9, "{right}");
        assert!(outcome.writes < 3.0, "{}", outcome.writes);
    }
}
