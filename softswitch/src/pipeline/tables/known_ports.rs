//! What a data plane knows of the switch's ports.

use super::super::entry::Watch;
use std::collections::BTreeMap;

/// Which ports are up; before anything is known of ports, all exist and are.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownPorts(Option<BTreeMap<u16, bool>>);

impl From<BTreeMap<u16, bool>> for KnownPorts {
    /// Ports that are not named do not exist.
    fn from(ports: BTreeMap<u16, bool>) -> Self {
        Self(Some(ports))
    }
}

impl KnownPorts {
    pub(crate) fn is_up(&self, port: u16) -> bool {
        self.0.as_ref().is_none_or(|ports| ports.get(&port).is_some_and(|up| *up))
    }

    pub(super) fn exists(&self, port: u16) -> bool {
        self.0.as_ref().is_none_or(|ports| ports.contains_key(&port))
    }

    /// Whether what watches a port, or none, may be used.
    pub(super) fn allow(&self, watch: Option<Watch>) -> bool {
        watch.is_none_or(|w| self.is_up(w.port))
    }
}
