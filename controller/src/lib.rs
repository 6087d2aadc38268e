//! The dmux controller: registration, latencies, selection, plan and reconcile.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`model`] | the replicated state: a deterministic state machine |
//! | [`registration`] | routers' control messages: cookies, certificates, liveness |
//! | [`attachment`] | endpoints of access LANs: discovery, attachment, wishes for metalinks |
//! | [`probing`] | round trips between gateways, and who does not answer |
//! | [`coordinates`] | distances between gateways that do not probe each other |
//! | [`punted`] | ARP and ICMP answers |
//! | [`stations`] | who is behind which port of an access LAN |
//! | [`selection`] | which routers a destination's packets go to |
//! | [`plan`] | the switch's entries as a function of state and observations, and how to get there |
//! | [`programming`] | from a claim to the switch: who waits is told, and what cannot be is given back |
//! | [`explain`] | why a client's packets go where they go, and which entries take them there |
//! | [`watching`] | what changed, for who watches |
//! | [`config`] | the configuration file |
//! | [`runtime`] | the tasks that connect all of these to Raft, the switch and the operator |
//!
//! All but `runtime` are pure: they take `now` and do no IO.

pub mod api;
pub mod attachment;
pub mod config;
pub mod coordinates;
pub mod explain;
pub mod model;
pub mod plan;
pub mod probing;
pub mod programming;
pub mod punted;
pub mod registration;
pub mod runtime;
pub mod selection;
pub mod stations;
pub mod watching;
