//! A client that sends without pause, and keeps a book of what was sent when and who answered.

use std::net::{Ipv6Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use dmux_host::client::{ClientEvent, ClientLink};
use dmux_wire::ipv6::{self, Echo};
use dmux_wire::{Ipv6, ProviderId};
use tokio::task::JoinHandle;

use super::world::PROTOCOL;

/// Between two packets of the client.
pub const EVERY: Duration = Duration::from_millis(1);
const PORT: u16 = 5555;
const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Packets that the book holds: the serial is the echo's identifier and sequence number.
const MOST: usize = 1 << 22;

/// One packet: when it was sent, and who answered.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// When.
    pub at: Instant,
    /// The router; `None` while there is no answer.
    pub by: Option<Ipv6Addr>,
}

/// The stream. Ends when dropped.
pub struct Stream {
    book: Arc<Mutex<Vec<Sent>>>,
    tasks: [JoinHandle<()>; 2],
}

impl Stream {
    /// Begins to send to a provider's routers.
    pub fn start(link: Arc<ClientLink>, provider: ProviderId) -> Self {
        let book: Arc<Mutex<Vec<Sent>>> = Arc::default();
        let sender = tokio::spawn(send(link.clone(), provider, book.clone()));
        let receiver = tokio::spawn(receive(link, book.clone()));
        Self { book, tasks: [sender, receiver] }
    }

    /// What was sent from a moment on.
    pub fn since(&self, moment: Instant) -> Vec<Sent> {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let first = book.partition_point(|sent| sent.at < moment);
        book[first..].to_vec()
    }

    /// The first packet sent after a moment that this router answered.
    pub fn first_by(&self, moment: Instant, router: Ipv6Addr) -> Option<Instant> {
        self.since(moment).iter().find(|sent| sent.by == Some(router)).map(|sent| sent.at)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn send(link: Arc<ClientLink>, provider: ProviderId, book: Arc<Mutex<Vec<Sent>>>) {
    let mut ticks = tokio::time::interval(EVERY);
    // A sender that was held up does not catch up: it would only measure itself.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let from = SocketAddrV4::new(link.address(0), PORT);
    loop {
        ticks.tick().await;
        let serial = {
            let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
            if book.len() >= MOST {
                return;
            }
            book.push(Sent { at: Instant::now(), by: None });
            book.len() - 1
        };
        if let Err(error) = one(&link, from, provider, serial).await {
            eprintln!("the client cannot send: {error:#}");
            return;
        }
    }
}

async fn one(link: &ClientLink, from: SocketAddrV4, provider: ProviderId, serial: usize) -> Result<()> {
    let (identifier, sequence) = ((serial >> 16) as u16, serial as u16);
    let packet = Echo { reply: false, identifier, sequence, data: b"failover" }.packet(CLIENT, ALL_ROUTERS)?;
    Ok(link.send(from, PROTOCOL, provider, &packet).await?)
}

async fn receive(link: Arc<ClientLink>, book: Arc<Mutex<Vec<Sent>>>) {
    loop {
        let Ok(event) = link.receive().await else { continue };
        let ClientEvent::Delivered { packet, .. } = event else { continue };
        let Ok((header, payload)) = Ipv6::parse(&packet) else { continue };
        if header.next_header != ipv6::ICMPV6 {
            continue;
        }
        let Ok(echo) = Echo::parse(payload, header.src, header.dst) else { continue };
        let serial = usize::from(echo.identifier) << 16 | usize::from(echo.sequence);
        let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sent) = book.get_mut(serial).filter(|_| echo.reply) {
            sent.by = Some(header.src);
        }
    }
}
