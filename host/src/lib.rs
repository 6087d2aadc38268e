//! End-host and IPvN router daemons.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`router`] | the IPvN router adaptor: registers, keeps alive, de-tunnels, sends returns |
//! | [`endpoint`] | an endpoint on an access LAN: discovers, attaches, connects to metanets by metalinks |
//! | [`client`] | a client on a frame link: tunnels packets to the service address |
//! | [`ping`] | probes of the whole path, and what came of them (pure) |
//! | [`station`] | a host's half of Ethernet and IPv4 (pure), for hosts without a kernel interface |
//! | [`interface`] | the substrate's frames on a network interface |
//! | [`link`] | frames in UDP datagrams |
//! | [`credentials`] | a router's certificate chain and key |

pub mod client;
pub mod credentials;
pub mod endpoint;
pub mod interface;
pub mod link;
mod patience;
pub mod ping;
pub mod router;
pub mod station;
