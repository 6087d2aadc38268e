//! Which Rust type a field of a key, a parameter of an action or a field of a packet header has.
//!
//! In this order: what `@refers_to("table", "field")` points at, and that field itself, share a newtype; `@format` tells
//! addresses; then the names below; then an unsigned integer of exactly the width. Anything else stops the build.

use crate::Error;

/// Names of the newtypes of reference targets, as (table, field). Other targets are named after both.
const TARGETS: &[(&str, &str, &str)] = &[
    ("router", "router", "RouterIndex"),
    ("bucket", "set", "SetId"),
    ("nexthop", "nexthop", "NexthopIndex"),
    ("service_source", "service_index", "::dmux_wire::ServiceIndex"),
    ("metalink_rx", "endpoint", "EndpointIndex"),
];

/// Types that the name and the width tell, since P4Info keeps neither enums nor the meaning of a number.
const NAMED: &[(&str, u32, &str)] = &[
    ("port", 9, "crate::PortId"),
    ("ingress_port", 16, "crate::PortId"),
    ("egress_port", 16, "crate::PortId"),
    ("role", 8, "crate::PortRole"),
    ("protocol", 16, "::dmux_wire::ProtocolId"),
    ("provider", 32, "::dmux_wire::ProviderId"),
    ("reason", 8, "::dmux_wire::PuntReason"),
    ("submit_to_ingress", 8, "crate::Submit"),
    ("t_in", 48, "crate::SwitchTime"),
    ("gateway", 16, "::dmux_wire::GatewayId"),
    ("link", 16, "crate::AccessLinkIndex"),
    ("mli", 24, "crate::Mli"),
    ("vid", 12, "crate::VlanId"),
    ("pcp", 3, "crate::Priority8"),
    ("queue", 3, "crate::Priority8"),
    ("police", 8, "crate::OutOfProfile"),
    ("flood_group", 16, "crate::MulticastGroup"),
    // Members of digests have no annotations.
    ("mac", 48, "::dmux_wire::MacAddr"),
];

/// A field of a packet header that is always 0 and that nobody sees.
pub const PADDING: &str = "pad";

/// A field that entries elsewhere refer to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub table: String,
    pub field: String,
}

impl Target {
    /// The type of this field and of all that refers to it, and whether it is ours to define.
    pub fn rust_type(&self) -> (String, bool) {
        let named = TARGETS.iter().find(|(table, field, _)| *table == self.table && *field == self.field);
        match named {
            Some((_, _, name)) => (name.to_string(), !name.contains("::")),
            None => (camel(&format!("{}_{}", self.table, self.field)), true),
        }
    }
}

/// The target of an `@refers_to("table", "field")`, with or without quotes.
pub fn refers_to(annotations: &[String]) -> Result<Option<Target>, Error> {
    for annotation in annotations {
        let Some(rest) = annotation.trim().strip_prefix("@refers_to") else {
            continue;
        };
        let parts: Option<(&str, &str)> =
            rest.trim().strip_prefix('(').and_then(|r| r.strip_suffix(')')).and_then(|r| r.split_once(','));
        let (table, field) =
            parts.ok_or_else(|| format!("{annotation}: write @refers_to(\"table\", \"field\") in the P4 source"))?;
        let plain = |s: &str| s.trim().trim_matches('"').to_owned();
        return Ok(Some(Target { table: plain(table), field: plain(field) }));
    }
    Ok(None)
}

/// The type of a field that neither is nor has a reference.
pub fn plain_type(of: &str, name: &str, bits: u32, annotations: &[String]) -> Result<String, Error> {
    for annotation in annotations {
        match (annotation.trim(), bits) {
            ("@format(IPV4_ADDRESS)", 32) => return Ok("::std::net::Ipv4Addr".into()),
            ("@format(MAC_ADDRESS)", 48) => return Ok("::dmux_wire::MacAddr".into()),
            (other, _) if other.starts_with("@format") => {
                return Err(format!("{of}: {name} of {bits} bits has an unknown {other}").into());
            }
            _ => {}
        }
    }
    if let Some((_, _, named)) = NAMED.iter().find(|(n, b, _)| *n == name && *b == bits) {
        return Ok(named.to_string());
    }
    match bits {
        8 | 16 | 32 | 64 | 128 => Ok(format!("u{bits}")),
        _ => Err(format!(
            "{of}: {name} is {bits} bits wide, which no integer type is: \
             give it a type in tables/build/rules.rs and tables/src/value.rs"
        )
        .into()),
    }
}

/// `a_name` as `AName`.
pub fn camel(name: &str) -> String {
    name.split(['_', '.'])
        .flat_map(|word| {
            let mut chars = word.chars();
            let first = chars.next().map(|c| c.to_ascii_uppercase());
            first.into_iter().chain(chars)
        })
        .collect()
}
