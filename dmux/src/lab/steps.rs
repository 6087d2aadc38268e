//! The steps of the lab, in order. Each says what was expected, checks it, and tells what was measured.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::Context;
use dmux_wire::ProviderId;
use serde_json::json;

use super::client::{Answer, Client};
use super::operator::{Operator, until};
use super::report::{Report, human, ms};
use super::setup::Lab;
use super::topology::{LINKS, PROVIDERS, Role};

/// How long anything may take that should happen by itself.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// When a ping counts as lost: more than the longest path and back.
const LOST: Duration = Duration::from_millis(250);
/// Between two rounds of pings.
const ROUND: Duration = Duration::from_millis(20);
/// Pings whose median is shown.
const PINGS: usize = 5;

/// What the steps work with.
pub(super) struct Stage<'a> {
    lab: &'a mut Lab,
    pub(super) report: &'a mut Report,
    operators: BTreeMap<u16, Operator>,
    pub(super) c1: Client,
    pub(super) c2: Client,
}

/// Runs them all.
pub async fn all(lab: &mut Lab, report: &mut Report) -> anyhow::Result<()> {
    report.say("dmux lab: three gateways, IPv6 as the new protocol, four routers of two providers, two clients\n");
    let gateways = lab.topology.gateways.clone();
    let operators = gateways.iter().map(|g| Ok((g.id, Operator::new(g.api)?))).collect::<anyhow::Result<_>>()?;
    let c1 = Client::attach(&lab.topology, lab.topology.host("c1"))?;
    let c2 = Client::attach(&lab.topology, lab.topology.host("c2"))?;
    let mut stage = Stage { lab, report, operators, c1, c2 };
    stage.start().await?;
    stage.registrations().await?;
    stage.latencies().await?;
    stage.closest_router().await?;
    stage.named_provider().await?;
    stage.explained().await?;
    stage.killed_router().await?;
    let leader = stage.killed_leader().await?;
    stage.returned_leader(leader).await?;
    stage.wiped_switch().await
}

impl Stage<'_> {
    pub(super) fn operator(&self, gateway: u16) -> anyhow::Result<&Operator> {
        self.operators.get(&gateway).with_context(|| format!("no gateway {gateway}"))
    }

    /// `r2 at paris`, by the IPv6 address of the router.
    pub(super) fn router_name(&self, address: Ipv6Addr) -> String {
        let hosts = &self.lab.topology.hosts;
        let host = hosts.iter().find(|h| matches!(h.role, Role::Router(_, a) if a == address));
        host.map_or_else(|| address.to_string(), |h| h.name.to_owned())
    }

    fn at(&self, router: &str) -> String {
        let gateway = self.lab.topology.gateway(self.lab.topology.host(router).gateway);
        format!("{router} at {}", gateway.name)
    }

    /// Waits until the switches of these gateways hold their plans.
    async fn synced(&self, gateways: &[u16]) -> anyhow::Result<Duration> {
        let began = Instant::now();
        for &gateway in gateways {
            let operator = self.operator(gateway)?;
            let what = format!("the switch of gateway {gateway} holds its plan");
            until(PATIENCE, &what, async || Ok((operator.own_switch().await?.state == "synced").then_some(()))).await?;
        }
        Ok(began.elapsed())
    }

    async fn start(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        let ids: Vec<u16> = self.lab.topology.gateways.iter().map(|g| g.id).collect();
        for &id in &ids {
            self.lab.start_switch(id)?;
            self.lab.start_controller(id)?;
        }
        let any = self.operator(ids[0])?.clone();
        let all_known = async || {
            let gateways = any.gateways().await?;
            Ok((gateways.len() == ids.len() && gateways.iter().any(|g| g.role == "leader")).then_some(gateways))
        };
        let (gateways, _) = until(PATIENCE, "three controllers form a cluster", all_known).await?;
        self.synced(&ids).await?;
        let took = began.elapsed();
        let leader = gateways.iter().find(|g| g.role == "leader").map_or("", |g| &g.name);
        let names: Vec<_> = gateways.iter().map(|g| g.name.clone()).collect();
        self.report.step(
            "start",
            true,
            vec![format!(
                "{} are up in {}: each a P4 switch and a controller, {leader} leads the cluster",
                names.join(", "),
                human(took)
            )],
            json!({ "ms": ms(took), "gateways": names, "leader": leader }),
        );
        Ok(())
    }

    async fn registrations(&mut self) -> anyhow::Result<()> {
        let names = ["r1", "r2", "r3"];
        let mut lines =
            vec!["three IPv6 routers registered (certificate, cookie, signature; replicated to all):".to_owned()];
        let mut measured = Vec::new();
        for name in names {
            let began = Instant::now();
            self.lab.start_router(name)?;
            self.registered_everywhere(name, &[1, 2, 3]).await?;
            let took = began.elapsed();
            let host = self.lab.topology.host(name);
            let Role::Router(provider, _) = host.role else { anyhow::bail!("{name} is no router") };
            lines.push(format!("{} of provider {provider}: {} from its start", self.at(name), human(took)));
            measured.push(json!({ "router": name, "gateway": host.gateway, "provider": provider.0, "ms": ms(took) }));
        }
        self.synced(&[1, 2, 3]).await?;
        self.report.step("registrations", true, lines, json!({ "routers": measured }));
        Ok(())
    }

    /// Waits until all of these gateways' controllers know the router.
    async fn registered_everywhere(&self, router: &str, gateways: &[u16]) -> anyhow::Result<()> {
        for &gateway in gateways {
            let operator = self.operator(gateway)?;
            let known = async || Ok(operator.routers().await?.iter().any(|r| r.name == router).then_some(()));
            until(PATIENCE, &format!("gateway {gateway} knows {router}"), known).await?;
        }
        Ok(())
    }

    async fn latencies(&mut self) -> anyhow::Result<()> {
        let operator = self.operator(1)?.clone();
        let all_pairs = async || {
            let known = operator.latencies().await?;
            Ok((known.len() == 2 * LINKS.len()).then_some(known))
        };
        let (known, _) = until(PATIENCE, "every gateway has measured every other", all_pairs).await?;
        let rtt = |a: u16, b: u16| {
            known.iter().find(|l| (l.from, l.to) == (a.into(), b.into())).map_or(0, |l| u64::from(l.rtt_us))
        };
        let mut lines = vec!["round trips between gateways, stamped by the switches:".to_owned()];
        let mut measured = Vec::new();
        let mut ok = true;
        for (a, b, delay) in LINKS {
            let (there, back) = (Duration::from_micros(rtt(a, b)), Duration::from_micros(rtt(b, a)));
            // A stamp is the time of the worker's round, which on a busy machine is a little older than the packet's arrival.
            let least = 2 * delay * 9 / 10;
            ok &= there >= least && back >= least;
            let (from, to) = (self.lab.topology.gateway(a).name, self.lab.topology.gateway(b).name);
            lines.push(format!("{from} ↔ {to}: {} ({} of it the link)", human(there), human(2 * delay)));
            measured.push(
                json!({ "from": a, "to": b, "rtt_ms": ms(there), "reverse_ms": ms(back), "link_ms": ms(2 * delay) }),
            );
        }
        // The order of distances is what selection rests on.
        ok &= rtt(1, 2) < rtt(2, 3) && rtt(2, 3) < rtt(1, 3);
        self.report.step("latencies", ok, lines, json!({ "pairs": measured }));
        Ok(())
    }

    /// The median of some pings; all must be answered by the same router.
    async fn pings(&self, client: &Client, from: Ipv4Addr, provider: ProviderId) -> anyhow::Result<Answer> {
        let mut answers = Vec::new();
        for _ in 0..PINGS {
            let answer = client.ping(from, provider, LOST).await?;
            answers.push(answer.with_context(|| format!("no echo reply for {from}, provider {provider}"))?);
        }
        answers.sort_by_key(|a| a.rtt);
        let median = answers[PINGS / 2];
        anyhow::ensure!(answers.iter().all(|a| a.router == median.router), "{from} reached several routers in turn");
        Ok(median)
    }

    /// Which router each address of `c2` lands at; `None` where no answer came.
    pub(super) async fn landing(&self, provider: ProviderId) -> BTreeMap<Ipv4Addr, Option<Answer>> {
        let mut asked = tokio::task::JoinSet::new();
        for &address in self.c2.addresses() {
            let client = self.c2.clone();
            asked.spawn(async move { (address, client.ping(address, provider, LOST).await.ok().flatten()) });
        }
        asked.join_all().await.into_iter().collect()
    }

    async fn closest_router(&mut self) -> anyhow::Result<()> {
        let c1_address = self.c1.addresses()[0];
        let c1 = self.pings(&self.c1, c1_address, ProviderId::ANY).await?;
        let udp = self.c1.udp_echo(c1_address, c1.router, LOST).await?;
        let first = self.landing(ProviderId::ANY).await;
        let second = self.landing(ProviderId::ANY).await;
        let router_of = |landing: &BTreeMap<Ipv4Addr, Option<Answer>>| -> BTreeMap<Ipv4Addr, Option<Ipv6Addr>> {
            landing.iter().map(|(&a, answer)| (a, answer.map(|x| x.router))).collect()
        };
        let (before, after) = (router_of(&first), router_of(&second));
        let mut shares: BTreeMap<String, usize> = BTreeMap::new();
        for router in before.values() {
            *shares.entry(router.map_or_else(|| "nobody".into(), |r| self.router_name(r))).or_default() += 1;
        }
        let mut rtts: Vec<_> = first.values().flatten().map(|a| a.rtt).collect();
        rtts.sort();
        let c2_rtt = rtts.get(rtts.len() / 2).copied().unwrap_or_default();
        let landed: BTreeSet<&str> = shares.keys().map(String::as_str).collect();
        let ok = self.router_name(c1.router) == "r1"
            && udp.is_some_and(|u| u.router == c1.router)
            && landed == BTreeSet::from(["r2", "r3"])
            && before == after;
        let split: Vec<_> = shares.iter().map(|(r, n)| format!("{n} at {r}")).collect();
        let udp_rtt = udp.map(|u| u.rtt).unwrap_or_default();
        let lines = vec![
            "client → service address → gateway → closest router → gateway → client:".to_owned(),
            format!(
                "c1 at berlin lands at {}, ICMPv6 echo in {}, UDP echo in {}",
                self.at(&self.router_name(c1.router)),
                human(c1.rtt),
                human(udp_rtt)
            ),
            format!(
                "c2's {} addresses at paris share two routers: {}, echo in {}",
                before.len(),
                split.join(", "),
                human(c2_rtt)
            ),
            "asked again, every one of them lands where it landed before".to_owned(),
        ];
        let measured = json!({
            "c1": { "router": self.router_name(c1.router), "rtt_ms": ms(c1.rtt), "udp_rtt_ms": ms(udp_rtt) },
            "c2": { "shares": shares, "rtt_ms": ms(c2_rtt), "stable": before == after },
        });
        self.report.step("closest_router", ok, lines, measured);
        Ok(())
    }

    async fn named_provider(&mut self) -> anyhow::Result<()> {
        let near = self.pings(&self.c1, self.c1.addresses()[0], PROVIDERS[0]).await?;
        let far = self.pings(&self.c1, self.c1.addresses()[0], PROVIDERS[1]).await?;
        let (near_name, far_name) = (self.router_name(near.router), self.router_name(far.router));
        let ok = near_name == "r1" && far_name == "r2" && far.rtt > near.rtt;
        let lines = vec![format!(
            "c1 names its provider: {} gives {near_name} in {}, {} gives {} in {}",
            PROVIDERS[0],
            human(near.rtt),
            PROVIDERS[1],
            self.at(&far_name),
            human(far.rtt)
        )];
        let measured = json!([
            { "provider": PROVIDERS[0].0, "router": near_name, "rtt_ms": ms(near.rtt) },
            { "provider": PROVIDERS[1].0, "router": far_name, "rtt_ms": ms(far.rtt) },
        ]);
        self.report.step("named_provider", ok, lines, measured);
        Ok(())
    }

    async fn killed_router(&mut self) -> anyhow::Result<()> {
        let before = self.landing(ProviderId::ANY).await;
        let name_of = |answer: &Option<Answer>| answer.map_or_else(String::new, |a| self.router_name(a.router));
        let on_r3: BTreeSet<_> = before.iter().filter(|(_, a)| name_of(a) == "r3").map(|(&a, _)| a).collect();
        let on_r2: BTreeSet<_> = before.keys().filter(|a| !on_r3.contains(a)).copied().collect();
        self.lab.process("r3")?.kill()?;
        let began = Instant::now();
        let mut disturbed = BTreeSet::new();
        let mut moved = false;
        while began.elapsed() < PATIENCE && !moved {
            let now = self.landing(ProviderId::ANY).await;
            let is_r2 = |a: &Ipv4Addr| now[a].is_some_and(|x| self.router_name(x.router) == "r2");
            disturbed.extend(on_r2.iter().filter(|a| !is_r2(a)).copied());
            moved = on_r3.iter().all(is_r2);
            if !moved {
                tokio::time::sleep(ROUND).await;
            }
        }
        let took = began.elapsed();
        let ok = moved && disturbed.is_empty() && !on_r3.is_empty() && !on_r2.is_empty();
        let lines = vec![format!(
            "r3 killed: its {} clients are at r2 after {}; the {} of r2 stayed, {} of them disturbed",
            on_r3.len(),
            human(took),
            on_r2.len(),
            disturbed.len()
        )];
        let measured = json!({
            "moved": on_r3.len(), "stayed": on_r2.len(), "disturbed": disturbed.len(), "ms": ms(took),
        });
        self.report.step("killed_router", ok, lines, measured);
        Ok(())
    }

    /// Kills the leader's controller. Returns its gateway.
    async fn killed_leader(&mut self) -> anyhow::Result<u16> {
        let gateways = self.operator(1)?.gateways().await?;
        let leader = gateways.iter().find(|g| g.role == "leader").context("no leader is known")?;
        let (leader, leader_name) = (u16::try_from(leader.id)?, leader.name.clone());
        let flow = Flow::start(&self.c1, &self.c2);
        // The new registration has to be heard by a controller that lives.
        let newcomer = if leader == self.lab.topology.host("r4").gateway { "r3" } else { "r4" };
        let living: Vec<u16> = self.operators.keys().copied().filter(|&g| g != leader).collect();
        self.lab.process(&format!("controller{leader}"))?.kill()?;
        let began = Instant::now();
        if newcomer == "r3" {
            self.lab.process("r3")?.restart()?;
        } else {
            self.lab.start_router(newcomer)?;
        }
        self.registered_everywhere(newcomer, &living).await?;
        let took = began.elapsed();
        let new_leader = self.operator(living[0])?.gateways().await?.into_iter().find(|g| g.role == "leader");
        let new_leader = new_leader.map(|g| g.name).unwrap_or_default();
        let (sent, lost) = flow.stop().await?;
        let ok = lost == 0 && sent > 0 && !new_leader.is_empty() && new_leader != leader_name;
        let lines = vec![
            format!("the leader's controller ({leader_name}) killed, and {newcomer} started at once:"),
            format!("{new_leader} leads, {newcomer} is registered {} after the kill", human(took)),
            format!("{sent} pings meanwhile, {lost} lost: the switches go on without it"),
        ];
        let measured = json!({
            "leader": leader_name, "new_leader": new_leader, "newcomer": newcomer, "registered_ms": ms(took),
            "pings": sent, "lost": lost,
        });
        self.report.step("killed_leader", ok, lines, measured);
        Ok(leader)
    }

    async fn returned_leader(&mut self, leader: u16) -> anyhow::Result<()> {
        self.lab.process(&format!("controller{leader}"))?.restart()?;
        let began = Instant::now();
        self.synced(&[leader]).await?;
        let took = began.elapsed();
        let here = self.operator(leader)?.routers().await?.len();
        let there = self.operator(if leader == 1 { 2 } else { 1 })?.routers().await?.len();
        let name = self.lab.topology.gateway(leader).name;
        let lines = vec![format!(
            "{name}'s controller is back from its directory: {here} routers known, its switch in step after {}",
            human(took)
        )];
        let measured = json!({ "gateway": name, "ms": ms(took), "routers": here });
        self.report.step("returned_leader", here == there && here > 0, lines, measured);
        Ok(())
    }

    /// An answer to c1, if it is r1's.
    async fn answer_of_r1(&self, address: Ipv4Addr) -> anyhow::Result<Option<Answer>> {
        let answer = self.c1.ping(address, ProviderId::ANY, LOST / 5).await?;
        Ok(answer.filter(|answer| self.router_name(answer.router) == "r1"))
    }

    async fn wiped_switch(&mut self) -> anyhow::Result<()> {
        let address = self.c1.addresses()[0];
        let client = self.c1.clone();
        // The outage of the controller that hears r1 may have outlasted its registration on a busy machine.
        until(PATIENCE, "c1 is answered by r1 again", async || self.answer_of_r1(address).await).await?;
        let before = self.operator(1)?.own_switch().await?;
        self.lab.process("switch1")?.restart()?;
        let began = Instant::now();
        let answered = async || client.ping(address, ProviderId::ANY, LOST / 5).await;
        let (_, took) = until(PATIENCE, "c1 is answered again", answered).await?;
        let operator = self.operator(1)?;
        let resynced = async || {
            let switch = operator.own_switch().await?;
            Ok((switch.state == "synced" && switch.resyncs > before.resyncs).then_some(switch))
        };
        let (switch, _) = until(PATIENCE, "the switch of berlin holds its plan", resynced).await?;
        let whole = began.elapsed();
        // On a busy machine the outage may outlast r1's registration, whose keepalives come through that switch.
        until(PATIENCE, "c1 is answered by r1 behind the new switch", async || self.answer_of_r1(address).await)
            .await?;
        let ok = switch.refused == 0;
        let lines = vec![
            format!("berlin's switch killed and restarted empty: c1 is answered again after {}", human(took)),
            format!(
                "whole and read back after {}: program loaded, {} entries ({} once connected)",
                human(whole),
                switch.planned,
                human(Duration::from_micros(switch.resync_us))
            ),
        ];
        let measured = json!({
            "answered_ms": ms(took), "whole_ms": ms(whole), "resync_ms": ms(Duration::from_micros(switch.resync_us)),
            "entries": switch.planned,
        });
        self.report.step("wiped_switch", ok, lines, measured);
        Ok(())
    }
}

/// Pings from both clients that go on while something else happens.
struct Flow {
    stop: tokio::sync::watch::Sender<bool>,
    task: tokio::task::JoinHandle<anyhow::Result<(usize, usize)>>,
}

impl Flow {
    fn start(c1: &Client, c2: &Client) -> Self {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let (c1, c2) = (c1.clone(), c2.clone());
        let task = tokio::spawn(async move {
            let (mut sent, mut lost) = (0, 0);
            while !*stopped.borrow() {
                let (a, b) = tokio::join!(
                    c1.ping(c1.addresses()[0], ProviderId::ANY, LOST),
                    c2.ping(c2.addresses()[sent % c2.addresses().len()], ProviderId::ANY, LOST)
                );
                for answer in [a?, b?] {
                    sent += 1;
                    lost += usize::from(answer.is_none());
                }
                tokio::time::sleep(ROUND).await;
            }
            Ok((sent, lost))
        });
        Self { stop, task }
    }

    /// Returns how many pings were sent and how many of them were lost.
    async fn stop(self) -> anyhow::Result<(usize, usize)> {
        self.stop.send_replace(true);
        self.task.await.context("the pings in the background")?
    }
}
