use super::*;

/// The smallest program with one of each kind of object.
const TEXT: &str = r#"
pkg_info { arch: "v1model" }
tables {
  preamble { id: 0x02000001 name: "ingress.routes.lpm" alias: "lpm" }
  match_fields { id: 1 name: "dst" bitwidth: 32 match_type: LPM }
  action_refs { id: 0x01000001 }
  action_refs { id: 0x01000002 scope: DEFAULT_ONLY }
  const_default_action_id: 0x01000002
  direct_resource_ids: 0x13000001
  size: 1024
}
tables {
  preamble { id: 0x02000002 name: "ingress.acl" alias: "acl" }
  match_fields { id: 1 name: "port" bitwidth: 9 match_type: EXACT annotations: "@refers_to(ports, port)" }
  match_fields { id: 2 name: "dst" bitwidth: 32 match_type: TERNARY }
  action_refs { id: 0x01000002 }
  size: 16
}
actions {
  preamble { id: 0x01000001 name: "ingress.via" alias: "via" }
  params { id: 1 name: "nexthop" bitwidth: 16 }
}
actions { preamble { id: 0x01000002 name: "NoAction" alias: "NoAction" } }
counters { preamble { id: 0x12000001 name: "drops" alias: "drops" } spec { unit: BOTH } size: 64 }
direct_counters {
  preamble { id: 0x13000001 name: "ingress.routes.hits" alias: "hits" }
  spec { unit: PACKETS }
  direct_table_id: 0x02000001
}
meters { preamble { id: 0x14000001 name: "punt" alias: "punt" } spec { unit: PACKETS } size: 16 }
controller_packet_metadata {
  preamble { id: 0x04000001 name: "packet_in" alias: "packet_in" annotations: "@controller_header(\"packet_in\")" }
  metadata { id: 1 name: "ingress_port" bitwidth: 16 }
  metadata { id: 2 name: "reason" bitwidth: 8 type_name { name: "PuntReason" } }
}
type_info {
  serializable_enums {
    key: "PuntReason"
    value {
      underlying_type { bitwidth: 8 }
      members { name: "control" value: "\001" }
      members { name: "arp" value: "\002" }
    }
  }
}
"#;

fn raw() -> v1::P4Info {
    P4Info::from_text(TEXT).unwrap().raw().clone()
}

#[test]
fn objects_are_found_by_id_by_name_and_by_alias() {
    let info = P4Info::from_text(TEXT).unwrap();
    let lpm = info.table(0x0200_0001).unwrap();
    assert_eq!(info.table_named("lpm"), Some(lpm));
    assert_eq!(info.table_named("ingress.routes.lpm"), Some(lpm));
    assert_eq!(info.table_named("routes"), None);
    assert_eq!(lpm.fields[0].kind, MatchKind::Lpm);
    assert!(!lpm.has_priority());
    assert_eq!(lpm.const_default_action, Some(0x0100_0002));
    assert_eq!(lpm.direct_counter, Some(0x1300_0001));
    assert_eq!(lpm.direct_meter, None);
    assert!(lpm.actions[0].in_entries() && lpm.actions[0].as_default());
    assert!(!lpm.actions[1].in_entries());
    let acl = info.table_named("acl").unwrap();
    assert!(acl.has_priority());
    assert_eq!(acl.fields[0].annotations, ["@refers_to(ports, port)"]);
    let via = info.action_named("via").unwrap();
    assert_eq!(via.param(1).unwrap().bits, 16);
    assert_eq!(via.param(2), None);
    assert_eq!(info.counter_named("drops").unwrap().size, 64);
    assert_eq!(info.meter_named("punt").unwrap().unit, Unit::Packets);
    assert_eq!(info.direct_counter(0x1300_0001).unwrap().table, lpm.id);
    let header = info.packet_in().unwrap();
    assert_eq!(header.field_named("reason").unwrap().id, 2);
    assert!(info.packet_out().is_none());
    assert_eq!(info.serializable_enum("PuntReason").unwrap(), [("control".to_owned(), 1), ("arp".to_owned(), 2)]);
}

#[test]
fn text_that_is_no_p4info_is_refused_with_its_place() {
    let error = P4Info::from_text("tables { nonsense: 1 }").unwrap_err();
    assert!(error.to_string().contains("nonsense"), "{error}");
}

/// Each contradiction, made by one change to a good P4Info, gets its own error.
#[test]
fn contradictions_are_refused() {
    type Change = fn(&mut v1::P4Info);
    type Expected = fn(&P4InfoError) -> bool;
    let cases: [(Change, Expected); 9] = [
        (|p| p.tables[0].preamble = None, |e| matches!(e, P4InfoError::NoPreamble { kind: "table" })),
        (
            |p| p.tables[1].preamble.as_mut().unwrap().id = 0x0200_0001,
            |e| matches!(e, P4InfoError::BadId { id: 0x0200_0001, .. }),
        ),
        (
            |p| p.tables[1].preamble.as_mut().unwrap().name = "ingress.routes.lpm".into(),
            |e| matches!(e, P4InfoError::DuplicateName { .. }),
        ),
        (|p| p.tables[1].match_fields[1].id = 1, |e| matches!(e, P4InfoError::BadFieldId { id: 1, .. })),
        (|p| p.actions[0].params[0].bitwidth = 0, |e| matches!(e, P4InfoError::BadWidth { bits: 0, .. })),
        (|p| p.tables[0].match_fields[0].r#match = None, |e| matches!(e, P4InfoError::BadMatchKind { .. })),
        (|p| p.counters[0].size = -1, |e| matches!(e, P4InfoError::BadSize { size: -1, .. })),
        (
            |p| p.tables[0].action_refs[0].id = 0x0100_0009,
            |e| matches!(e, P4InfoError::Dangling { kind: "action", .. }),
        ),
        (|p| p.direct_counters[0].direct_table_id = 9, |e| matches!(e, P4InfoError::Dangling { kind: "table", .. })),
    ];
    for (n, (change, expected)) in cases.into_iter().enumerate() {
        let mut info = raw();
        change(&mut info);
        let error = P4Info::new(info).unwrap_err();
        assert!(expected(&error), "case {n}: {error}");
    }
}
