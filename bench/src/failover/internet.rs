//! The Internet of the experiment: one task that carries frames between everybody's links, late by the distance.
//!
//! Every gateway and every host has one link, to here, and takes this for its next hop. Destinations are unicast
//! addresses, or the anycast prefix: then the closest gateway that has not been withdrawn gets the packet, as routing
//! would have it (once it has converged, which here takes no time).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use dmux_host::link::MAX_FRAME;
use dmux_wire::MacAddr;
use tokio::net::UdpSocket;

/// The next hop of everybody.
pub const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0xff, 1]);
/// Where the destination is in a frame without a VLAN tag.
const ETHER_TYPE: std::ops::Range<usize> = 12..14;
const DESTINATION: std::ops::Range<usize> = 30..34;

/// Somebody's link.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// Unicast address.
    pub address: Ipv4Addr,
    /// Ethernet address.
    pub mac: MacAddr,
    /// Where it is.
    pub site: u8,
    /// Whether it is the gateway of its site.
    pub is_gateway: bool,
    /// This end of the link.
    pub near: SocketAddr,
    /// Its end.
    pub far: SocketAddr,
}

/// The gateways that routing has lost.
#[derive(Debug, Clone, Default)]
pub struct Withdrawn(Arc<Mutex<BTreeSet<u8>>>);

impl Withdrawn {
    /// Routes to a site's gateway are gone, or back.
    pub fn set(&self, site: u8, withdrawn: bool) {
        let mut sites = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if withdrawn {
            sites.insert(site)
        } else {
            sites.remove(&site)
        };
    }

    fn has(&self, site: u8) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&site)
    }
}

struct Network {
    attachments: Vec<(Attachment, Arc<UdpSocket>)>,
    by_address: BTreeMap<Ipv4Addr, usize>,
    anycast: fn(Ipv4Addr) -> bool,
    delay: fn(u8, u8) -> Duration,
    withdrawn: Withdrawn,
}

impl Network {
    /// Who gets a frame from there.
    fn target(&self, from: usize, frame: &[u8]) -> Option<usize> {
        if frame.get(ETHER_TYPE)? != [8, 0] {
            return None;
        }
        let destination: [u8; 4] = frame.get(DESTINATION)?.try_into().ok()?;
        let destination = Ipv4Addr::from(destination);
        if !(self.anycast)(destination) {
            return self.by_address.get(&destination).copied();
        }
        let site = self.attachments.get(from)?.0.site;
        let gateways = self.attachments.iter().enumerate().filter(|(_, (a, _))| a.is_gateway);
        let living = gateways.filter(|(_, (a, _))| !self.withdrawn.has(a.site));
        living.min_by_key(|(_, (a, _))| (self.delay)(site, a.site)).map(|(n, _)| n)
    }
}

/// Carries frames until the thread's runtime ends. Call it on a thread of its own.
pub fn run(
    attachments: Vec<Attachment>,
    anycast: fn(Ipv4Addr) -> bool,
    delay: fn(u8, u8) -> Duration,
    withdrawn: Withdrawn,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let by_address = attachments.iter().enumerate().map(|(n, a)| (a.address, n)).collect();
        let mut bound = Vec::new();
        for a in attachments {
            let socket = UdpSocket::bind(a.near).await.with_context(|| format!("the link of {}", a.address))?;
            bound.push((a, Arc::new(socket)));
        }
        let network = Arc::new(Network { attachments: bound, by_address, anycast, delay, withdrawn });
        let mut links = tokio::task::JoinSet::new();
        for from in 0..network.attachments.len() {
            links.spawn(carry(network.clone(), from));
        }
        while let Some(ended) = links.join_next().await {
            ended??;
        }
        Ok(())
    })
}

async fn carry(network: Arc<Network>, from: usize) -> Result<()> {
    let (here, socket) = network.attachments.get(from).context("no such link")?;
    let mut buffer = vec![0; MAX_FRAME];
    loop {
        // A link whose other end is gone says so once; the next frame may come from its successor.
        let Ok((length, _)) = socket.recv_from(&mut buffer).await else { continue };
        let Some(frame) = buffer.get_mut(..length) else { continue };
        let Some(to) = network.target(from, frame) else { continue };
        let Some((there, link)) = network.attachments.get(to) else { continue };
        let (Some(macs), delay) = (frame.first_chunk_mut::<12>(), (network.delay)(here.site, there.site)) else {
            continue;
        };
        macs[..6].copy_from_slice(&there.mac.0);
        macs[6..].copy_from_slice(&MAC.0);
        if delay.is_zero() {
            // What cannot be sent is lost, as on any link.
            let _ = link.send_to(frame, there.far).await;
        } else {
            let (frame, link, far) = (frame.to_vec(), link.clone(), there.far);
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let _ = link.send_to(&frame, far).await;
            });
        }
    }
}
