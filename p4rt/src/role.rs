//! Roles: how several controllers share one switch (specification §5, §5.2).
//!
//! The specification leaves open how a role is described; `role.config` is any message. [`RoleConfig`] is the one that
//! Stratum defined and other targets and clients took over (`stratum.P4RoleConfig`), byte for byte.

use prost::{Message, Name};
use prost_types::Any;

use crate::p4::v1;

/// What a role may do. A role without a configuration may do everything.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct RoleConfig {
    /// P4Info ids of what this role, and no other with a configuration, may write and hears of.
    #[prost(uint32, repeated, tag = "1")]
    pub exclusive_p4_ids: Vec<u32>,
    /// P4Info ids of what this role may write and hears of, as others may.
    #[prost(uint32, repeated, tag = "2")]
    pub shared_p4_ids: Vec<u32>,
    /// Narrows the packet-ins that it gets down to those with this metadata.
    #[prost(message, optional, tag = "3")]
    pub packet_in_filter: Option<PacketFilter>,
    /// Whether it gets packet-ins.
    #[prost(bool, tag = "4")]
    pub receives_packet_ins: bool,
    /// Whether it may set the forwarding pipeline configuration.
    #[prost(bool, tag = "5")]
    pub can_push_pipeline: bool,
}

/// Packet-ins whose metadata field `metadata_id` is `value`.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct PacketFilter {
    /// The P4Info's id of the field.
    #[prost(uint32, tag = "1")]
    pub metadata_id: u32,
    /// A byte string (§8.3).
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

impl Name for RoleConfig {
    const NAME: &'static str = "P4RoleConfig";
    const PACKAGE: &'static str = "stratum";

    fn full_name() -> String {
        "stratum.P4RoleConfig".to_owned()
    }

    fn type_url() -> String {
        "type.googleapis.com/stratum.P4RoleConfig".to_owned()
    }
}

impl RoleConfig {
    /// Packed, as `role.config` holds it.
    #[must_use]
    pub fn to_any(&self) -> Any {
        Any { type_url: Self::type_url(), value: self.encode_to_vec() }
    }

    /// Unpacks a `role.config`.
    ///
    /// # Errors
    /// A sentence that names the type that was sent and the one that is understood.
    pub fn from_any(any: &Any) -> Result<Self, String> {
        let sent = any.type_url.rsplit('/').next().unwrap_or_default();
        if sent != Self::full_name() {
            return Err(format!("the role configuration is a \"{sent}\"; {} is understood here", Self::full_name()));
        }
        Self::decode(any.value.as_slice()).map_err(|e| format!("the role configuration is no {sent}: {e}"))
    }

    /// Whether `id` is among those that the role may write.
    #[must_use]
    pub fn covers(&self, id: u32) -> bool {
        self.exclusive_p4_ids.contains(&id) || self.shared_p4_ids.contains(&id)
    }
}

/// The role that a session asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Its name; empty is the default role, which has no configuration and may do everything.
    pub name: String,
    /// What it may do; `None` is everything.
    pub config: Option<RoleConfig>,
}

impl Role {
    /// As an arbitration message carries it; the default role is left out.
    #[must_use]
    pub fn to_message(&self) -> Option<v1::Role> {
        (!self.name.is_empty()).then(|| v1::Role {
            name: self.name.clone(),
            config: self.config.as_ref().map(RoleConfig::to_any),
            ..v1::Role::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_survives_packing() {
        let config = RoleConfig {
            exclusive_p4_ids: vec![1, 2],
            shared_p4_ids: vec![3],
            packet_in_filter: Some(PacketFilter { metadata_id: 4, value: vec![5] }),
            receives_packet_ins: true,
            can_push_pipeline: false,
        };
        assert_eq!(RoleConfig::from_any(&config.to_any()), Ok(config));
    }

    #[test]
    fn the_bytes_are_those_of_stratums_message() {
        let config = RoleConfig {
            exclusive_p4_ids: vec![5],
            packet_in_filter: Some(PacketFilter { metadata_id: 1, value: vec![0xff] }),
            can_push_pipeline: true,
            ..RoleConfig::default()
        };
        // Field 1, packed; field 3, a message of fields 1 and 2; field 5.
        let bytes = [0x0a, 1, 5, 0x1a, 5, 0x08, 1, 0x12, 1, 0xff, 0x28, 1];
        assert_eq!(config.encode_to_vec(), bytes);
    }

    #[test]
    fn another_type_is_refused_by_its_name() {
        let any = Any { type_url: "type.googleapis.com/acme.Role".to_owned(), value: Vec::new() };
        assert!(RoleConfig::from_any(&any).unwrap_err().contains("acme.Role"));
        let broken = Any { value: vec![0xff], ..RoleConfig::default().to_any() };
        assert!(RoleConfig::from_any(&broken).is_err());
    }
}
