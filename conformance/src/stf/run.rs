//! Running a test.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use dmux_p4rt::client::{delete, insert, modify};
use dmux_p4rt::p4::config::v1::P4Info;
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::p4_data::Data;

use super::expect::{Expectations, hex};
use super::names;
use super::number;
use super::parse::{Command, Rates};
use super::replication::{clone_session, multicast, replica};
use crate::program::Program;
use crate::target::{Frame, Kind, Target};

/// What became of a test.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Why it failed; nothing if it passed.
    pub wrong: Vec<String>,
    /// Writes that the switch refused.
    pub refused: Vec<String>,
    /// Everything that came out, in order.
    pub frames: Vec<Frame>,
}

impl Outcome {
    /// Whether it passed.
    pub fn passed(&self) -> bool {
        self.wrong.is_empty()
    }
}

/// Runs a test on a fresh switch.
///
/// # Errors
/// A switch that does not start, refuses the program, or dies: for the test that is a failure, too.
pub async fn run(kind: &Kind, program: &Program, commands: &[(usize, Command)]) -> Result<Outcome> {
    let named = ports(commands);
    let target = Target::start(kind, program, &named).await?;
    let mut run = Run {
        info: &program.info,
        target,
        waiting: Vec::new(),
        expected: Expectations::default(),
        digests: Vec::new(),
        nodes: Vec::new(),
        groups: BTreeMap::new(),
        outcome: Outcome::default(),
    };
    for refusal in run.target.write(digest_configs(&program.info)).await?.into_iter().filter_map(Result::err) {
        run.outcome.refused.push(format!("digests: {refusal}"));
    }
    for (line, command) in commands {
        run.command(command).await.with_context(|| format!("line {line}"))?;
    }
    run.flush().await?;
    let Run { expected, mut outcome, digests: wanted, target, .. } = run;
    outcome.wrong.extend(expected.judge(&named, &outcome.frames));
    let came = digests(&program.info, &target.digests);
    // A test that expects none does not look at them.
    if !wanted.is_empty() && wanted != came {
        outcome.wrong.push(format!("digests expected: {wanted:?}; came: {came:?}"));
    }
    Ok(outcome)
}

/// The ports that a test names.
fn ports(commands: &[(usize, Command)]) -> Vec<u16> {
    let mut named = BTreeSet::new();
    for (_, command) in commands {
        if let Command::Packet { port, .. } | Command::Expect { port, .. } = command {
            named.insert(*port);
        }
    }
    named.into_iter().collect()
}

struct Run<'a> {
    info: &'a P4Info,
    target: Target,
    /// Frames that are sent together, when the next command wants to see their effect.
    waiting: Vec<Frame>,
    expected: Expectations,
    digests: Vec<(String, Vec<String>)>,
    nodes: Vec<(u32, Vec<u16>)>,
    groups: BTreeMap<u32, Vec<v1::Replica>>,
    outcome: Outcome,
}

impl Run<'_> {
    async fn flush(&mut self) -> Result<()> {
        if !self.waiting.is_empty() {
            let frames = std::mem::take(&mut self.waiting);
            let missing = self.expected.count().saturating_sub(self.outcome.frames.len());
            self.outcome.frames.extend(self.target.exchange(&frames, missing).await?);
        }
        Ok(())
    }

    async fn command(&mut self, command: &Command) -> Result<()> {
        match command {
            Command::Packet { port, frame } => {
                self.waiting.push((*port, frame.clone()));
                return Ok(());
            }
            Command::Expect { port, pattern } => {
                self.expected.add(*port, pattern.clone());
                return Ok(());
            }
            Command::ExpectDigest { name, fields } => {
                let digest = names::find("digest", name, &self.info.digests, |d| d.preamble.as_ref())?;
                let name = digest.preamble.as_ref().map_or("", |p| &p.name);
                // What is no number is the name of an error or of an enum's member, or `invalid`.
                let field = |f: &String| match f.starts_with(|c: char| c.is_ascii_digit()) {
                    true => Ok(hex(&number::exact(f)?)),
                    false => Ok(f.clone()),
                };
                let fields = fields.iter().map(field).collect::<Result<_>>()?;
                self.digests.push((name.to_owned(), fields));
                return Ok(());
            }
            Command::NoPacket | Command::Nothing => return Ok(()),
            _ => self.flush().await?,
        }
        match command {
            Command::CheckCounter { name, index, bytes, is, value } => {
                let data = self.read_counter(name, *index).await?;
                let found = if *bytes { data.byte_count } else { data.packet_count }.cast_unsigned();
                if !is.holds(found, *value) {
                    self.outcome.wrong.push(format!("counter {name}({index}) is {found}; expected {is:?} {value}"));
                }
            }
            Command::CheckRegister { name, index, is, value } => {
                let found = self.read_register(name, *index).await?;
                if !is.holds(found, *value) {
                    self.outcome.wrong.push(format!("register {name}({index}) is {found}; expected {is:?} {value}"));
                }
            }
            Command::McNode { rid, ports } => self.nodes.push((*rid, ports.clone())),
            _ => {
                for update in self.updates(command)? {
                    let shown = format!("{command:?}");
                    for refusal in self.target.write(vec![update]).await?.into_iter().filter_map(Result::err) {
                        self.outcome.refused.push(format!("{shown}: {refusal}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// What a command writes.
    fn updates(&mut self, command: &Command) -> Result<Vec<v1::Update>> {
        let info = self.info;
        Ok(match command {
            Command::Add { table, priority, keys, does } => {
                vec![insert(names::entry(info, table, *priority, keys, does)?)]
            }
            Command::SetDefault { table, call } => vec![modify(names::default_entry(info, table, call)?)],
            Command::Member { profile, id, call } => {
                let profile = names::profile(info, profile)?;
                let action = names::action(info, &names::profile_actions(info, profile), call)?;
                let action_profile_id = names::id(profile.preamble.as_ref());
                let member = v1::ActionProfileMember { action_profile_id, member_id: *id, action: Some(action) };
                vec![insert(Entity::ActionProfileMember(member))]
            }
            Command::Group { profile, id, members } => {
                let profile = names::profile(info, profile)?;
                let members = members.iter().map(|m| v1::action_profile_group::Member {
                    member_id: *m,
                    weight: 1,
                    ..Default::default()
                });
                let group = v1::ActionProfileGroup {
                    action_profile_id: names::id(profile.preamble.as_ref()),
                    group_id: *id,
                    members: members.collect(),
                    max_size: 0,
                };
                vec![insert(Entity::ActionProfileGroup(group))]
            }
            Command::Mirror { session, port } => vec![insert(clone_session(*session, vec![replica(0, *port)]))],
            Command::MirrorGroup { session, group } => {
                let replicas = self.groups.get(group).cloned().unwrap_or_default();
                vec![insert(clone_session(*session, replicas))]
            }
            Command::MirrorDelete { session } => vec![delete(clone_session(*session, Vec::new()))],
            Command::McGroup { group } => {
                self.groups.insert(*group, Vec::new());
                vec![insert(multicast(*group, Vec::new()))]
            }
            Command::McAssociate { group, node } => {
                let (rid, ports) = self.nodes.get(*node).with_context(|| format!("no node {node} was made"))?;
                let replicas = self.groups.get_mut(group).with_context(|| format!("no group {group} was made"))?;
                replicas.extend(ports.iter().map(|port| replica(*rid, *port)));
                vec![modify(multicast(*group, replicas.clone()))]
            }
            Command::ValueSet { name, values } => {
                let set = names::find("value set", name, &info.value_sets, |v| v.preamble.as_ref())?;
                let member =
                    |value| names::value_set_member(&set.r#match, value).map(|r#match| v1::ValueSetMember { r#match });
                let members = values.iter().map(member).collect::<Result<_>>()?;
                let value_set_id = names::id(set.preamble.as_ref());
                vec![modify(Entity::ValueSetEntry(v1::ValueSetEntry { value_set_id, members }))]
            }
            Command::RegisterWrite { name, index, value } => {
                let value = number::exact(value)?;
                vec![modify(Entity::RegisterEntry(self.register(name, Some(*index), Some(value))?))]
            }
            Command::RegisterReset { name } => {
                let register = names::find("register", name, &info.registers, |r| r.preamble.as_ref())?;
                let cells = 0..u64::from(register.size.unsigned_abs());
                let zero =
                    |index| Ok(modify(Entity::RegisterEntry(self.register(name, Some(index), Some(vec![0]))?)));
                cells.map(zero).collect::<Result<_>>()?
            }
            Command::CounterWrite { name, index, packets, bytes } => {
                let data = v1::CounterData { byte_count: bytes.cast_signed(), packet_count: packets.cast_signed() };
                vec![modify(Entity::CounterEntry(self.counter(name, *index, Some(data))?))]
            }
            Command::Meter { name, index, rates } => self.meter(name, *index, *rates)?,
            _ => Vec::new(),
        })
    }

    fn register(&self, name: &str, index: Option<u64>, value: Option<Vec<u8>>) -> Result<v1::RegisterEntry> {
        let register = names::find("register", name, &self.info.registers, |r| r.preamble.as_ref())?;
        Ok(v1::RegisterEntry {
            register_id: names::id(register.preamble.as_ref()),
            index: index.map(|i| v1::Index { index: i.cast_signed() }),
            data: value.map(|v| v1::P4Data { data: Some(Data::Bitstring(v)) }),
        })
    }

    async fn read_register(&self, name: &str, index: u64) -> Result<u64> {
        let wanted = Entity::RegisterEntry(self.register(name, Some(index), None)?);
        let found = self.target.session.read(vec![wanted.into()]).await?;
        let value = found.into_iter().find_map(|e| match e.entity {
            Some(Entity::RegisterEntry(v1::RegisterEntry {
                data: Some(v1::P4Data { data: Some(Data::Bitstring(value)) }),
                ..
            })) => Some(value),
            _ => None,
        });
        let value = value.with_context(|| format!("register {name}({index}) cannot be read"))?;
        Ok(value.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    fn counter(&self, name: &str, index: u64, data: Option<v1::CounterData>) -> Result<v1::CounterEntry> {
        let counter = names::find("counter", name, &self.info.counters, |c| c.preamble.as_ref())?;
        let counter_id = names::id(counter.preamble.as_ref());
        Ok(v1::CounterEntry { counter_id, index: Some(v1::Index { index: index.cast_signed() }), data })
    }

    async fn read_counter(&self, name: &str, index: u64) -> Result<v1::CounterData> {
        let wanted = self.counter(name, index, None)?;
        let found = self.target.session.read(vec![Entity::CounterEntry(wanted).into()]).await?;
        let data = found.into_iter().find_map(|e| match e.entity {
            Some(Entity::CounterEntry(entry)) => entry.data,
            _ => None,
        });
        data.with_context(|| format!("counter {name}({index}) cannot be read"))
    }

    fn meter(&self, name: &str, index: Option<u64>, rates: Rates) -> Result<Vec<v1::Update>> {
        let meter = names::find("meter", name, &self.info.meters, |m| m.preamble.as_ref())?;
        let config = v1::MeterConfig {
            cir: rates.committed.0.cast_signed(),
            cburst: rates.committed.1.cast_signed(),
            pir: rates.peak.0.cast_signed(),
            pburst: rates.peak.1.cast_signed(),
            ..Default::default()
        };
        let entry = |index: i64| v1::MeterEntry {
            meter_id: names::id(meter.preamble.as_ref()),
            index: Some(v1::Index { index }),
            config: Some(config),
            counter_data: None,
        };
        let cells = match index {
            Some(index) => index.cast_signed()..index.cast_signed() + 1,
            None => 0..meter.size,
        };
        Ok(cells.map(|index| modify(entry(index))).collect())
    }
}

/// The digests that came, field by field, in order.
pub fn digests(info: &P4Info, lists: &[v1::DigestList]) -> Vec<(String, Vec<String>)> {
    let mut all = Vec::new();
    for list in lists {
        let digest = info.digests.iter().find(|d| names::id(d.preamble.as_ref()) == list.digest_id);
        let name = digest.and_then(|d| d.preamble.as_ref()).map_or("", |p| &p.name);
        all.extend(list.data.iter().map(|data| (name.to_owned(), fields(data))));
    }
    all
}

fn fields(data: &v1::P4Data) -> Vec<String> {
    match &data.data {
        Some(Data::Bitstring(bytes)) => vec![hex(bytes)],
        Some(Data::EnumValue(bytes)) => vec![hex(bytes)],
        Some(Data::Bool(b)) => vec![hex(&[u8::from(*b)])],
        Some(Data::Enum(name) | Data::Error(name)) => vec![name.clone()],
        Some(Data::Header(header)) if header.is_valid => header.bitstrings.iter().map(|b| hex(b)).collect(),
        Some(Data::Header(_)) => vec!["invalid".to_owned()],
        Some(Data::Struct(members) | Data::Tuple(members)) => members.members.iter().flat_map(fields).collect(),
        other => vec![format!("{other:?}")],
    }
}

/// Digests reach the controller only once the switch was told to send them: each at once.
pub fn digest_configs(info: &P4Info) -> Vec<v1::Update> {
    let config = v1::digest_entry::Config { max_timeout_ns: 0, max_list_size: 1, ack_timeout_ns: 0 };
    let entry = |id| v1::DigestEntry { digest_id: id, config: Some(config) };
    info.digests.iter().map(|d| insert(Entity::DigestEntry(entry(names::id(d.preamble.as_ref()))))).collect()
}
