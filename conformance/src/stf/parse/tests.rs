use super::*;

fn one(line: &str) -> Command {
    let mut all = parse(line).unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0).1
}

fn number(text: &str) -> Value {
    Value::Number(text.to_owned())
}

#[test]
fn an_entry_with_a_priority_open_digits_and_escaped_names() {
    let Command::Add { table, priority, keys, does } =
        one("add ex1 100 extra$0.h:0x25** data.$valid:0b1 act1(val:0x25, port:2) = A # why")
    else {
        panic!()
    };
    assert_eq!((table.as_str(), priority), ("ex1", Some(100)));
    assert_eq!(keys, [("extra$0.h".to_owned(), number("0x25**")), ("data.$valid".to_owned(), number("0b1"))]);
    let args = vec![("val".to_owned(), "0x25".to_owned()), ("port".to_owned(), "2".to_owned())];
    assert_eq!(does, Does::Action(Call { name: "act1".to_owned(), args }));
}

#[test]
fn every_kind_of_value() {
    let Command::Add { priority, keys, .. } = one("add t a:0x0a000000/8 b:1&&&0x3 c:5..0x10 d:* \"e f\":7 x()") else {
        panic!()
    };
    assert_eq!(priority, None);
    let values: Vec<Value> = keys.iter().map(|(_, v)| v.clone()).collect();
    assert_eq!(
        values,
        [
            Value::Prefix("0x0a000000".to_owned(), 8),
            Value::Mask("1".to_owned(), "0x3".to_owned()),
            Value::Range("5".to_owned(), "0x10".to_owned()),
            number("*"),
            number("7"),
        ]
    );
    assert_eq!(keys[4].0, "e f");
}

#[test]
fn packets_and_what_is_expected() {
    assert_eq!(one("packet 3 01 0203"), Command::Packet { port: 3, frame: vec![1, 2, 3] });
    assert_eq!(one("PACKET 3 aB"), Command::Packet { port: 3, frame: vec![0xab] });
    assert_eq!(one("expect 1"), Command::Expect { port: 1, pattern: None });
    let pattern = Some(Pattern::new("0*ff$"));
    assert_eq!(one("expect 1 0* ff $"), Command::Expect { port: 1, pattern });
}

#[test]
fn members_groups_and_checks() {
    let Command::Add { does, .. } = one("add t a:1 group(7)") else { panic!() };
    assert_eq!(does, Does::Group(7));
    let Command::Add { does, .. } = one("add t a:1 member(port:7)") else { panic!() };
    assert!(matches!(does, Does::Action(_)), "an action may have that name");
    let check = one("check_counter ingress.c(10) packets >= 2");
    let name = "ingress.c".to_owned();
    assert_eq!(check, Command::CheckCounter { name, index: 10, bytes: false, is: Is::AtLeast, value: 2 });
    let meter = one("meter_set_rates m 1 0.000001:5 2:6");
    let rates = Rates { committed: (1, 5), peak: (2_000_000, 6) };
    assert_eq!(meter, Command::Meter { name: "m".to_owned(), index: Some(1), rates });
}

#[test]
fn what_is_no_command_is_refused_with_its_line() {
    for wrong in ["frobnicate", "add t a:1", "packet 1 abc", "packet x 00", "add t a:1 x( y", "mirroring_add 1 2 3"] {
        let error = parse(&format!("\n{wrong}")).unwrap_err();
        assert!(format!("{error:#}").starts_with("line 2"), "{error:#}");
    }
}
