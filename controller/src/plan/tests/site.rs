use super::super::{PuntRate, SiteConfig, SiteError};
use super::SITE;
use dmux_wire::PuntReason;

fn error(text: &str) -> SiteError {
    SiteConfig::parse(text).unwrap_err()
}

fn key_of(text: &str) -> String {
    match error(text) {
        SiteError::Value { key, .. } => key,
        other => panic!("{other}"),
    }
}

#[test]
fn a_description_reads_back_as_it_was_written() {
    let site = SiteConfig::parse(SITE).unwrap();
    assert_eq!(site.cpu_port, 510);
    assert_eq!(SiteConfig::parse(&toml::to_string(&site).unwrap()), Ok(site));
}

#[test]
fn syntax_errors_name_the_line() {
    let typo = SITE.replace("mtu = 1500", "mtu = \"large\"");
    let SiteError::Syntax { line, .. } = error(&typo) else { panic!() };
    assert_eq!(line, 1 + SITE.lines().position(|line| line.starts_with("mtu")).unwrap());
    let unknown = SITE.replace("mtu = 1500", "mtu = 1500\nmtv = 1");
    assert!(error(&unknown).to_string().contains("mtv"), "{}", error(&unknown));
    assert!(matches!(error("ports = ["), SiteError::Syntax { .. }));
    assert!(error(&SITE.replace("0.0.0.0/0", "10.0.0.1/8")).to_string().contains("10.0.0.0/8"));
}

#[test]
fn values_that_cannot_be_are_named_by_their_key() {
    let port = "[[ports]]\nnumber = 1\nrole = \"wan\"\nmac = \"02:00:00:00:01:02\"\n";
    let route = "[[routes]]\nprefix = \"0.0.0.0/0\"\nnext_hops = [\"upstream\"]\n";
    let with_rate = |rate: &str| format!("{SITE}\n[punt_rates]\narp = {rate}\n");
    for (text, key) in [
        (SITE.replace("number = 1", "number = 511"), "ports[0].number"),
        (SITE.replace("number = 1", "number = 510"), "ports[0].number"),
        (SITE.replace("02:00:00:00:01:01", "03:00:00:00:01:01"), "ports[0].mac"),
        (format!("{SITE}{port}"), "ports[1].number"),
        (SITE.replace("port = 1\n", "port = 2\n"), "next_hops.upstream.port"),
        (SITE.replace("mtu = 1500", "mtu = 67"), "next_hops.upstream.mtu"),
        (SITE.replace("02:00:00:00:ff:01", "00:00:00:00:00:00"), "next_hops.upstream.mac"),
        (SITE.replace("[\"upstream\"]", "[]"), "routes[0].next_hops"),
        (SITE.replace("[\"upstream\"]", "[\"upstrean\"]"), "routes[0].next_hops"),
        (SITE.replace("[\"upstream\"]", "[\"upstream\", \"upstream\"]"), "routes[0].next_hops"),
        (format!("{SITE}{route}"), "routes[1].prefix"),
        (with_rate("{ per_second = 0, burst = 1 }"), "punt_rates.arp"),
        (format!("cpu_port = 600\n{SITE}"), "cpu_port"),
        ("ports = []".into(), "ports"),
    ] {
        assert_eq!(key_of(&text), key);
    }
    let unknown = error(&SITE.replace("[\"upstream\"]", "[\"upstrean\"]")).to_string();
    assert!(unknown.contains("upstrean") && unknown.contains("known: upstream"), "{unknown}");
}

#[test]
fn groups_that_do_not_fit_are_refused() {
    let mut text = String::from("[[ports]]\nnumber = 1\nrole = \"wan\"\nmac = \"02:00:00:00:01:01\"\n");
    for n in 0..33 {
        text += &format!("[next_hops.h{n}]\nport = 1\nmac = \"02:00:00:00:02:{n:02x}\"\nmtu = 1500\n");
    }
    // Groups of 33 that differ in their order need 256 cells each.
    for first in 0..20 {
        let names: Vec<_> = (0..33).map(|n| format!("\"h{}\"", (n + first) % 33)).collect();
        text += &format!("[[routes]]\nprefix = \"10.{first}.0.0/16\"\nnext_hops = [{}]\n", names.join(","));
    }
    assert_eq!(key_of(&text), "routes");
}

#[test]
fn a_punt_rate_replaces_its_default_only() {
    let site = SiteConfig::parse(&format!("{SITE}\n[punt_rates]\narp = {{ per_second = 9, burst = 3 }}\n")).unwrap();
    let default = PuntRate { per_second: 1, burst: 1 };
    assert_eq!(site.punt_rate(PuntReason::Arp, default), PuntRate { per_second: 9, burst: 3 });
    assert_eq!(site.punt_rate(PuntReason::Control, default), default);
}
