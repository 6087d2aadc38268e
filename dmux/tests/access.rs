//! What operators do on access LANs, against a whole gateway.

mod support;

use serde_json::Value;
use support::{Gateway, refused, succeed, wait};

/// `dmux …` at a gateway.
struct Operator {
    api: String,
}

impl Operator {
    fn words<'a>(&'a self, line: &'a str) -> Vec<&'a str> {
        line.split_whitespace().chain(["--api", &self.api]).collect()
    }

    fn does(&self, line: &str) -> String {
        succeed(&self.words(line))
    }

    fn may_not(&self, line: &str, words: &[&str]) {
        refused(&self.words(line), words);
    }

    fn get(&self, resource: &str) -> Value {
        serde_json::from_str(&self.does(&format!("get {resource} -o json"))).expect("JSON")
    }
}

const CLAIM: &str = "metalink claim --gateway 1 --link lan --port 3 --protocol 41";

#[test]
fn operators_promise_an_access_link_to_the_last_bit() {
    let gateway = Gateway::start_lan(3);
    let operator = Operator { api: gateway.api.address().to_string() };
    assert!(gateway.api.services().iter().any(|s| s == "dmux.api.v1.Access"));

    operator.may_not("access-link put --gateway 9 --name lan --capacity 100M", &["gateway 9 is not known"]);
    operator.does(
        "access-link put --gateway 1 --name lan --capacity 100M --endpoint-maximum 60M --short-lease 1 --long-lease 3600",
    );
    operator.does("metanet create --protocol 41 --name video --admit-up-to 30M --deny 02:00:00:00:01:09");
    operator.does("metanet create --protocol 42 --provider 7 --name voice --by-operator --multipoint");
    let metanets = operator.get("metanets");
    assert_eq!(metanets[0]["deny"][0], "02:00:00:00:01:09", "{metanets}");
    assert_eq!((&metanets[1]["id"]["provider"], &metanets[1]["admit_up_to"]), (&7.into(), &Value::Null));
    assert_eq!((&metanets[0]["shared_mli"], &metanets[1]["shared_mli"]), (&0.into(), &0xff_fc00.into()));
    assert!(operator.does("get metanets -o wide").contains("0xfffc00"));

    let said = operator.does(&format!("{CLAIM} --mac 02:00:00:00:01:01 --rate 60M --lease long"));
    assert!(said.contains("metalink 1 of gateway 1") && said.contains("60 Mbit/s"), "{said}");
    let second = |rate: &str| format!("{CLAIM} --mac 02:00:00:00:01:02 --rate {rate} --lease long");
    operator.may_not(&second("40000001"), &["assignable capacity", "40000000 bit/s would fit"]);
    operator.does(&second("40M"));
    operator.may_not(&format!("{CLAIM} --mac 02:00:00:00:01:03 --rate 1 --lease short"), &["0 bit/s would fit"]);
    operator.may_not("access-link put --gateway 1 --name lan --capacity 99M", &["100000000 bit/s", "promised"]);
    operator.does("metalink adjust --gateway 1 --mli 2 --rate 15000001");
    let third = format!("{CLAIM} --mac 02:00:00:00:01:03 --rate 24999999 --lease short");
    operator.does(&third);
    let capacity = operator.get("capacity");
    assert_eq!(capacity[0]["long_promised"], 75_000_001, "{capacity}");
    assert_eq!(capacity[0]["short_promised"], 24_999_999, "{capacity}");
    let shown = operator.does("get capacity");
    assert!(shown.contains("75000001 bit/s") && shown.contains(" 0 bit/s"), "{shown}");

    // The short-term lease of a second is not renewed; its controller sees to that.
    let table = wait("the short-term lease ends", || {
        let table = operator.does("get metalinks --gateway 1");
        (!table.contains("02:00:00:00:01:03")).then_some(table)
    });
    assert!(table.contains("02:00:00:00:01:01") && table.contains("15000001 bit/s"), "{table}");
    operator.may_not("metalink renew --gateway 1 --mli 3", &["no such metalink"]);
    operator.does("metalink renew --gateway 1 --mli 1");

    operator.may_not("metanet delete --protocol 41", &["2 metalinks", "revoke"]);
    operator.may_not("access-link remove --gateway 1 --name lan", &["2 metalinks"]);
    for mli in [1, 2] {
        operator.does(&format!("metalink revoke --gateway 1 --mli {mli}"));
    }
    operator.does("metanet delete --protocol 41");
    operator.may_not("metanet delete --protocol 41", &["no such metanet"]);
    operator.does("access-link remove --gateway 1 --name lan");
    assert_eq!(operator.get("metalinks"), Value::Array(vec![]));
    assert_eq!(operator.get("metanets").as_array().map(Vec::len), Some(1));
}
