use std::collections::BTreeSet;

use dmux_p4rt::P4Info;
use dmux_p4rt::bytestring;
use dmux_p4rt::p4::v1::field_match::FieldMatchType;
use dmux_p4rt::p4::v1::p4_data::Data;
use dmux_p4rt::p4::v1::table_action::Type;
use dmux_p4rt::p4::v1::{CounterData, P4Data, P4StructLike, TableEntry};
use dmux_wire::{DropReason, PuntReason};
use proptest::prelude::*;

use super::*;
use crate::sample::{Sample, Source};

fn info() -> P4Info {
    P4Info::from_text(P4INFO_TEXT).unwrap()
}

fn action_mut(entry: &mut TableEntry) -> &mut dmux_p4rt::p4::v1::Action {
    match entry.action.as_mut().unwrap().r#type.as_mut().unwrap() {
        Type::Action(action) => action,
        _ => panic!("no action"),
    }
}

/// What a switch could check: the entry obeys the P4Info.
fn assert_valid(info: &P4Info, entry: &TableEntry) {
    let table = info.table(entry.table_id).unwrap();
    assert_eq!(entry.priority > 0, table.has_priority(), "{}", table.name);
    for m in &entry.r#match {
        let field = table.field(m.field_id).unwrap();
        let canonical = |bytes: &[u8]| {
            assert_eq!(bytestring::check(bytes, field.bits).unwrap(), bytes);
        };
        match m.field_match_type.as_ref().unwrap() {
            FieldMatchType::Exact(m) => canonical(&m.value),
            FieldMatchType::Lpm(m) => {
                canonical(&m.value);
                assert!((1..=field.bits as i32).contains(&m.prefix_len));
            }
            FieldMatchType::Ternary(m) => {
                canonical(&m.value);
                canonical(&m.mask);
                assert_ne!(m.mask, [0]);
            }
            other => panic!("{other:?}"),
        }
    }
    let mut entry = entry.clone();
    let action = action_mut(&mut entry);
    assert!(table.actions.iter().any(|a| a.id == action.action_id && a.in_entries()));
    let params = &info.action(action.action_id).unwrap().params;
    assert_eq!(params.len(), action.params.len());
    for param in params {
        let given = action.params.iter().find(|p| p.param_id == param.id);
        bytestring::check(&given.unwrap().value, param.bits).unwrap();
    }
}

proptest! {
    #[test]
    fn decoding_undoes_encoding_for_every_table(seed: u64) {
        let info = info();
        for entry in any_samples(seed) {
            let encoded = entry.encode();
            assert_valid(&info, &encoded);
            prop_assert_eq!(AnyEntry::decode(&encoded), Ok(entry), "{}", entry);
            let key = entry.key().encode();
            prop_assert_eq!(key.r#match, encoded.r#match);
            prop_assert_eq!(key.priority, encoded.priority);
            prop_assert_eq!(key.action, None);
        }
    }

    /// A switch may pad its numbers, reorder fields and add what it measured: the entry is still the same.
    #[test]
    fn the_form_of_an_answer_does_not_matter(seed: u64) {
        let info = info();
        for entry in any_samples(seed) {
            let mut answer = entry.encode();
            let table = info.table(answer.table_id).unwrap();
            answer.r#match.reverse();
            for m in &mut answer.r#match {
                let bits = table.field(m.field_id).unwrap().bits;
                let pad = |bytes: &mut Vec<u8>| *bytes = bytestring::pad(bytes, bits).unwrap();
                match m.field_match_type.as_mut().unwrap() {
                    FieldMatchType::Exact(m) => pad(&mut m.value),
                    FieldMatchType::Lpm(m) => pad(&mut m.value),
                    FieldMatchType::Ternary(m) => {
                        pad(&mut m.value);
                        pad(&mut m.mask);
                    }
                    other => panic!("{other:?}"),
                }
            }
            let action = action_mut(&mut answer);
            action.params.reverse();
            for p in &mut action.params {
                p.value.insert(0, 0);
            }
            answer.counter_data = Some(CounterData { byte_count: 1, packet_count: 2 });
            prop_assert_eq!(AnyEntry::decode(&answer), Ok(entry));
        }
    }

    #[test]
    fn packet_headers_survive(seed: u64) {
        let info = info();
        let mut source = Source::new(seed);
        let header = PacketInHeader::sample(&mut source);
        let encoded = header.encode();
        prop_assert_eq!(encoded.len(), info.packet_in().unwrap().fields.len());
        prop_assert_eq!(PacketInHeader::decode(&encoded), Ok(header));
        let header = PacketOutHeader::sample(&mut source);
        let encoded = header.encode();
        prop_assert_eq!(encoded.len(), info.packet_out().unwrap().fields.len());
        prop_assert_eq!(PacketOutHeader::decode(&encoded), Ok(header));
    }

    /// Whatever one change makes of an entry, it is refused or read; never a panic.
    #[test]
    fn damaged_entries_are_refused_or_read(seed: u64, byte: u8, id: u32) {
        for entry in any_samples(seed) {
            let mut damaged = entry.encode();
            damaged.priority ^= i32::from(byte);
            for m in &mut damaged.r#match {
                if let Some(FieldMatchType::Exact(m)) = &mut m.field_match_type {
                    m.value.push(byte);
                }
                if let Some(FieldMatchType::Lpm(m)) = &mut m.field_match_type {
                    m.prefix_len = id as i32;
                }
            }
            let _ = AnyEntry::decode(&damaged);
            let action = action_mut(&mut damaged);
            action.params.truncate(1);
            action.action_id ^= id & 0xf;
            let _ = AnyEntry::decode(&damaged);
            damaged.table_id = id;
            let _ = AnyEntry::decode(&damaged);
        }
    }
}

#[test]
fn worked_bytes() {
    let key = DemuxKey { protocol: 41.into(), provider: dmux_wire::ProviderId::ANY };
    let action = DemuxAction::ToSet { set: SetId(258), mask: 255 };
    let entry = AnyEntry::from((key, action));
    assert_eq!(entry.to_string(), "demux[protocol=41 provider=1] -> to_set(set=258 mask=255)");
    let encoded = entry.encode();
    let demux = info().table_named("demux").unwrap().id;
    assert_eq!(encoded.table_id, demux);
    assert_eq!(encoded.priority, 0);
    let values: Vec<_> = encoded
        .r#match
        .iter()
        .map(|m| match m.field_match_type.as_ref().unwrap() {
            FieldMatchType::Exact(m) => m.value.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(values, [[41], [1]]);
    let mut encoded = encoded;
    assert_eq!(action_mut(&mut encoded).params[0].value, [1, 2]);
}

#[test]
fn foreign_entries_are_told_apart() {
    let key = RouterKey { router: RouterIndex(5) };
    let action = RouterAction::Tunnel { dst: [203, 0, 113, 100].into(), dst_port: 4000 };
    let good = AnyEntry::from((key, action)).encode();
    let decode = |change: fn(&mut TableEntry)| {
        let mut entry = good.clone();
        change(&mut entry);
        AnyEntry::decode(&entry).unwrap_err()
    };
    let table = "router";
    assert_eq!(decode(|e| e.table_id = 9), DecodeError::UnknownTable { table_id: 9 });
    assert_eq!(decode(|e| e.is_default_action = true), DecodeError::DefaultEntry { table });
    assert_eq!(decode(|e| e.priority = 3), DecodeError::BadPriority { table, priority: 3 });
    assert_eq!(decode(|e| e.action = None), DecodeError::NoAction { table });
    assert_eq!(decode(|e| action_mut(e).action_id = 77), DecodeError::ForeignAction { table, action_id: 77 });
    for change in [
        (|e| e.r#match[0].field_id = 2) as fn(&mut TableEntry),
        |e| e.r#match.push(e.r#match[0].clone()),
        |e| action_mut(e).params[1].param_id = 1,
    ] {
        let error = decode(change);
        assert!(matches!(error, DecodeError::UnexpectedField { .. }), "{error}");
    }
    for change in [(|e| e.r#match.clear()) as fn(&mut TableEntry), |e| action_mut(e).params.truncate(1)] {
        let error = decode(change);
        assert!(matches!(error, DecodeError::MissingField { .. }), "{error}");
    }
    for change in [(|e| action_mut(e).params[1].value = vec![]) as fn(&mut TableEntry), |e| {
        action_mut(e).params[1].value = vec![1, 0, 0]
    }] {
        let error = decode(change);
        assert!(matches!(error, DecodeError::BadBytes { .. }), "{error}");
    }
    let ternary = FieldMatchType::Ternary(Default::default());
    let mut entry = good.clone();
    entry.r#match[0].field_match_type = Some(ternary);
    let error = AnyEntry::decode(&entry).unwrap_err();
    assert!(matches!(error, DecodeError::WrongKind { .. }), "{error}");
    assert_eq!(DemuxTable::decode(&good), Err(DecodeError::WrongTable { table: "demux", found: good.table_id }));
}

#[test]
fn a_key_that_matches_everything_can_be_narrowed() {
    let priority = Priority::of::<10>();
    let all = PuntKey::any(priority);
    let key = PuntKey { dst_port: Ternary::exact(dmux_wire::DMUX_PORT), ..all };
    assert_eq!(AnyKey::from(all).encode().r#match, []);
    assert_eq!(AnyKey::from(key).encode().r#match.len(), 1);
    assert_eq!(AnyKey::from(key).encode().priority, 10);
}

#[test]
fn what_is_referred_to_is_written_first() {
    let stage = |name: &str| {
        let id = info().table_named(name).unwrap().id;
        write_order(id)
    };
    assert!(stage("router") < stage("bucket"));
    assert!(stage("bucket") < stage("demux"));
    assert!(stage("nexthop") < stage("ipv4_route"));
    assert!(stage("service_source") < stage("local_service"));
    assert_eq!(write_order(0xdead), u8::MAX);
}

#[test]
fn every_table_is_bound_once_with_its_size() {
    let info = info();
    let ids: BTreeSet<u32> = TABLES.iter().map(|t| t.id).collect();
    assert_eq!(ids.len(), TABLES.len());
    assert_eq!(TABLES.len(), info.tables().len());
    for table in TABLES {
        let of_info = info.table(table.id).unwrap();
        assert_eq!((table.name, table.size), (&*of_info.name, of_info.size));
    }
    let drops = info.counter(counters::DROPS.id).unwrap();
    assert_eq!(counters::DROPS.size, drops.size);
    assert!(counters::DROPS.size > DropReason::ALL.len() as u64);
    let punt = info.meter(meters::PUNT_METER.id).unwrap();
    assert_eq!(meters::PUNT_METER.name, punt.name);
    assert!(meters::PUNT_METER.size > PuntReason::ALL.len() as u64);
}

/// `dmux-wire` and the P4 program number the reasons alike.
#[test]
fn reasons_of_the_program_are_those_of_the_wire() {
    let info = info();
    let program = |name: &str| -> BTreeSet<(String, u128)> {
        let members = info.serializable_enum(name).unwrap();
        let named = members.into_iter().filter(|(_, value)| *value != 0);
        named.map(|(n, v)| (n.to_lowercase(), v)).collect()
    };
    let wire: BTreeSet<_> = DropReason::ALL.iter().map(|r| (r.name().to_owned(), r.code().into())).collect();
    assert_eq!(program("DropReason"), wire);
    let wire: BTreeSet<_> = PuntReason::ALL.iter().map(|r| (r.name().to_owned(), r.code().into())).collect();
    assert_eq!(program("PuntReason"), wire);
}

/// A message of `lan_source_t`, as a switch sends it.
fn lan_source(members: &[&[u8]]) -> P4Data {
    let bits = |bytes: &&[u8]| P4Data { data: Some(Data::Bitstring(bytes.to_vec())) };
    P4Data { data: Some(Data::Struct(P4StructLike { members: members.iter().map(bits).collect() })) }
}

#[test]
fn digests_are_read_by_position_in_whatever_form() {
    let id = info().raw().digests.iter().find(|d| d.preamble.as_ref().unwrap().name == "lan_source_t").cloned();
    assert_eq!(id.unwrap().preamble.unwrap().id, LanSourceDigest::ID);
    let expected = LanSourceDigest {
        link: AccessLinkIndex(1),
        vid: VlanId::new(300).unwrap(),
        mac: dmux_wire::MacAddr([2, 0, 0, 0, 3, 1]),
        port: PortId::of::<4>(),
    };
    for members in
        [[&[1][..], &[1, 44], &[2, 0, 0, 0, 3, 1], &[4]], [&[0, 1][..], &[1, 44], &[2, 0, 0, 0, 3, 1], &[0, 4]]]
    {
        assert_eq!(LanSourceDigest::decode(&lan_source(&members)), Ok(expected));
    }
    let refused = |members: &[&[u8]]| LanSourceDigest::decode(&lan_source(members)).unwrap_err();
    let shape = DecodeError::BadDigest { digest: "lan_source_t", members: 4 };
    assert_eq!(refused(&[&[1], &[1], &[2]]), shape);
    assert_eq!(LanSourceDigest::decode(&P4Data::default()), Err(shape));
    let wide = refused(&[&[1], &[0x10, 0], &[2], &[4]]);
    assert!(matches!(wide, DecodeError::BadBytes { field: "vid", .. }), "{wide}");
}
