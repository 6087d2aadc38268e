//! Endpoints of access LANs: substrate discovery, attachment, and their wishes for metalinks ("Network Access in a Diversified
//! Internet", §§3.2 and 3.3). The messages and their order are told in `proto/dmux/control/v1/metalink.proto`.
//!
//! [`Attachments`] is pure: it takes the time, the replicated state and a punted frame, and returns [`Effect`]s for others to
//! carry out. It owns what is not replicated: who is attached, and what is being asked for.
//!
//! ```text
//!            MLI 0            Effect::Send
//! endpoint ────────▶ handle ──────────────────────────────────────────────────────────────────────────────▶ endpoint
//!            control MLI      Effect::Propose ──▶ Raft ── committed ──┬──────────────────▶ Effect::Send ──▶
//!          ────────▶ handle ──┤                                       └─ Effect::Await ── programmed ─┘
//!                             └─ Effect::Ask ──▶ the metanet's operator ── decided ── Effect::Propose
//! ```
//!
//! What a frame may cost rises with what it has proven:
//!
//! | step | proven by | cost until then |
//! | --- | --- | --- |
//! | Discover | nothing | one HMAC; an answer no longer than the frame; of a port's and all ports' share of a second |
//! | Attach | cookie (stateless): frames for this address reach this port | one HMAC |
//! | Attach where certificates are asked for | chain, signature | two Ed25519 verifications, of the port's share of a second |
//! | on the control MLI | the switch: the endpoint is attached | of the endpoint's share of a second; one proposal at a time for each metalink |
//!
//! An endpoint is a port and an Ethernet address, so whoever can send from another's address at the same port is that endpoint,
//! unless the access link asks for certificates. Then who attaches is known; frames on the provisioned VLAN still carry no
//! signature, and a LAN that lets its stations forge addresses is not made safer by ours.
//!
//! What becomes of an endpoint when something around it changes:
//!
//! | what happens | what comes of it |
//! | --- | --- |
//! | a frame is lost | the endpoint repeats the request; one that was carried out already is answered again |
//! | this controller restarts | its cookies are void and nobody is attached: requests are refused as not attached, the endpoint attaches, and finds its metalinks as they were |
//! | the endpoint is silent for [`IDLE`] and has no metalink | it is not attached any more |
//! | its certificate expires, or its key is revoked | its next request is refused; its leases end |
//! | the access link asks for certificates from now on | likewise, for endpoints that have shown none |
//! | another controller, or an operator, changes or takes its metalink | a Notice |

mod answers;
mod attached;
mod budget;
mod connect;
mod discovery;
mod flight;
mod frames;
mod leases;
mod notices;
mod operators;

use std::collections::BTreeMap;
use std::time::Duration;

use dmux_tables::PortId;
use dmux_wire::control::RefusalCode;
use dmux_wire::metalink::{Kind, MetalinkError};
use dmux_wire::{GatewayId, MacAddr, PuntReason, WireError};
use thiserror::Error;

use crate::model::{Command, Endpoint, LinkKey, MetalinkId, Model, Owner, Reply};
use crate::plan::SiteConfig;
use crate::punted::Outgoing;
use crate::registration::{Authorities, Cookies, Now, Unavailable};

use answers::Asker;
use attached::Members;
use budget::Budget;
use flight::Flights;
use frames::Heard;
use notices::Told;
use operators::Wishes;

pub use attached::{IDLE, MAX_ATTACHED, MAX_ATTACHED_PER_PORT};
pub use connect::RETRY_PENDING;
pub use flight::{MAX_IN_FLIGHT, MAX_IN_FLIGHT_PER_ENDPOINT, PROGRAM_DEADLINE};
pub use operators::{
    Closing, MAX_WISHES, MAX_WISHES_PER_ENDPOINT, MAX_WISHES_PER_METANET, NotDecided, OPERATOR_PATIENCE, REASK_AFTER,
    Verdict, Wish, WishId,
};

/// Discoveries answered a second at most, of all ports.
pub const DISCOVERIES_PER_SECOND: u32 = 1_000;
/// Likewise of one port.
pub const DISCOVERIES_PER_PORT: u32 = 250;
/// Attachments looked into a second at most, of all ports.
pub const ATTACHMENTS_PER_SECOND: u32 = 1_000;
/// Likewise of one port.
pub const ATTACHMENTS_PER_PORT: u32 = 250;
/// Chains verified a second at most, of all ports.
pub const VERIFICATIONS_PER_SECOND: u32 = 500;
/// Likewise of one port.
pub const VERIFICATIONS_PER_PORT: u32 = 50;
/// Requests on the control MLI looked into a second at most, of all endpoints.
pub const REQUESTS_PER_SECOND: u32 = 4_000;
/// Likewise of one endpoint.
pub const REQUESTS_PER_ENDPOINT: u32 = 64;

/// Pairs a proposal, or a wait, with its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// The switch could not be programmed for a metalink, and the claim was given back.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the switch could not be programmed for the metalink, and the claim was given back: {0}")]
pub struct NotProgrammed(pub String);

/// What is to be done; the order matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Let the switch send a frame.
    Send(Outgoing),
    /// Likewise, but not before the switch takes the endpoint's frames on the control MLI: what is sent there before that is
    /// lost. Whoever is not told repeats what it asked.
    Welcome {
        /// Whose.
        endpoint: Endpoint,
        /// What it is told.
        frame: Outgoing,
    },
    /// Propose a command to the cluster, and call [`Attachments::committed`] with its outcome.
    Propose {
        /// To be given back.
        token: Token,
        /// The command.
        command: Command,
    },
    /// Let the cluster renew a lease, and call [`Attachments::committed`] with the reply for this metalink.
    Renew {
        /// To be given back.
        token: Token,
        /// Which.
        metalink: MetalinkId,
    },
    /// Wait until the switch has the metalink's entries, and call [`Attachments::programmed`].
    Await {
        /// To be given back.
        token: Token,
        /// Which.
        metalink: MetalinkId,
        /// Whose.
        owner: Owner,
        /// The number of the claim that is to be programmed.
        request: u64,
    },
    /// Tell the operators of the metanet, as many as listen.
    Ask(Wish),
    /// Tell them what came of it; there is nothing more to decide.
    Close(Wish, Closing),
}

/// Why a frame was dropped without an answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Dropped {
    /// Not the headers that its punt reason promises.
    #[error("its headers do not parse: {0}")]
    Headers(#[from] WireError),
    /// Not a message.
    #[error("{0}")]
    Message(#[from] MetalinkError),
    /// Punted for a reason that is no business of endpoints'.
    #[error("punted for {0}")]
    Reason(PuntReason),
    /// The MLI is not the one of its punt reason.
    #[error("MLI {0} is not the one that it was punted for")]
    Mli(u32),
    /// On the control MLI, but not on the provisioned VLAN.
    #[error("a request on VLAN {0:?}, which is not the provisioned one")]
    Vlan(Option<u16>),
    /// The port is none of an access link's.
    #[error("port {0} is on no access link")]
    Port(PortId),
    /// Not one station's.
    #[error("{0} is not the address of one station other than the gateway")]
    Source(MacAddr),
    /// A kind that gateways send, or one that does not go on that MLI.
    #[error("a message that endpoints do not send there")]
    Kind,
    /// Its source, or everybody, has used up this second's share.
    #[error("more messages than are looked into a second")]
    Rate,
    /// Nothing that could be answered is as short as the frame.
    #[error("the frame is too short for an answer of no more bytes; pad it")]
    TooShort,
    /// What it asks for is under way, and there is no room for more.
    #[error("as much as there may be is under way")]
    Busy,
}

impl Dropped {
    /// A name for counters.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Headers(_) => "headers",
            Self::Message(_) => "message",
            Self::Reason(_) => "reason",
            Self::Mli(_) => "mli",
            Self::Vlan(_) => "vlan",
            Self::Port(_) => "port",
            Self::Source(_) => "source",
            Self::Kind => "kind",
            Self::Rate => "rate",
            Self::TooShort => "too_short",
            Self::Busy => "busy",
        }
    }
}

/// What endpoints were told, and what was not answered: since the start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Offers.
    pub offers: u64,
    /// Attachments, repeated ones with them.
    pub attached: u64,
    /// Answers that say which metalink there is: to Connect and to Renew.
    pub connected: u64,
    /// Refusals, by code.
    pub refused: BTreeMap<i32, u64>,
    /// Frames without an answer, by [`Dropped::name`].
    pub dropped: BTreeMap<&'static str, u64>,
}

/// What a port is to endpoints behind it.
#[derive(Debug, Clone)]
struct Place {
    port: PortId,
    /// The gateway's own address there.
    mac: MacAddr,
    link: LinkKey,
    provisioned_vid: u16,
    multipoint_vid: u16,
    pcp: u8,
    mtu: u16,
}

/// What an [`Attachments`] is told when it starts.
#[derive(Debug, Clone)]
pub struct AttachmentsConfig {
    /// This gateway.
    pub gateway: GatewayId,
    /// Who may certify endpoints.
    pub authorities: Authorities,
    /// Random; cookies are made from it. A new one at each start.
    pub secret: [u8; 32],
}

/// The endpoints of one gateway. See the [module](self).
#[derive(Debug)]
pub struct Attachments {
    gateway: GatewayId,
    authorities: Authorities,
    cookies: Cookies,
    places: BTreeMap<u16, Place>,
    members: Members,
    flights: Flights,
    wishes: Wishes,
    told: Told,
    discoveries: Budget<u16>,
    attachments: Budget<u16>,
    verifications: Budget<u16>,
    requests: Budget<Endpoint>,
    counts: Counts,
}

impl Attachments {
    /// Of a site, before anything was heard.
    pub fn new(config: AttachmentsConfig, site: &SiteConfig) -> Self {
        let mac_of = |number: u16| site.ports.iter().find(|port| port.number == number).map(|port| port.mac);
        let mut places = BTreeMap::new();
        for (_, link) in site.links() {
            for port in link.port_ids() {
                let Some(mac) = mac_of(port.get()) else { continue };
                let place = Place {
                    port,
                    mac,
                    link: LinkKey { gateway: config.gateway, name: link.name.clone() },
                    provisioned_vid: link.provisioned_vid,
                    multipoint_vid: link.multipoint_vid,
                    pcp: link.pcp,
                    mtu: link.mtu,
                };
                places.insert(port.get(), place);
            }
        }
        Self {
            gateway: config.gateway,
            authorities: config.authorities,
            cookies: Cookies::new(&config.secret),
            places,
            members: Members::default(),
            flights: Flights::default(),
            wishes: Wishes::default(),
            told: Told::default(),
            discoveries: Budget::new(DISCOVERIES_PER_PORT, DISCOVERIES_PER_SECOND),
            attachments: Budget::new(ATTACHMENTS_PER_PORT, ATTACHMENTS_PER_SECOND),
            verifications: Budget::new(VERIFICATIONS_PER_PORT, VERIFICATIONS_PER_SECOND),
            requests: Budget::new(REQUESTS_PER_ENDPOINT, REQUESTS_PER_SECOND),
            counts: Counts::default(),
        }
    }

    /// Takes a frame that the switch punted with `reason` from `port`.
    ///
    /// # Errors
    /// It is not answered. [`counts`](Self::counts) tells how often that was so.
    pub fn handle(
        &mut self,
        now: Now,
        model: &Model,
        reason: PuntReason,
        port: PortId,
        frame: &[u8],
    ) -> Result<Vec<Effect>, Dropped> {
        let outcome = self.heard(now, model, reason, port, frame);
        if let Err(dropped) = &outcome {
            *self.counts.dropped.entry(dropped.name()).or_default() += 1;
        }
        outcome
    }

    fn heard(
        &mut self,
        now: Now,
        model: &Model,
        reason: PuntReason,
        port: PortId,
        frame: &[u8],
    ) -> Result<Vec<Effect>, Dropped> {
        let place = self.places.get(&port.get()).ok_or(Dropped::Port(port))?.clone();
        let heard = Heard::parse(&place, reason, frame)?;
        let endpoint = Endpoint { port: port.get(), mac: heard.src };
        // Before the message is read: a flood costs no more than this.
        let admitted = match reason {
            PuntReason::Discovery => self.discoveries.admit(now.mono, endpoint.port),
            _ => self.requests.admit(now.mono, endpoint),
        };
        if !admitted {
            return Err(Dropped::Rate);
        }
        let (nonce, kind) = heard.message()?;
        let asker = Asker::new(place, endpoint, &heard, nonce);
        match kind {
            Err(bad) => self.refuse(&asker, answers::Refusal::new(bad.code(), bad.to_string())),
            Ok(kind) if reason == PuntReason::Discovery => match kind {
                Kind::Discover(discover) => self.discover(now, model, &asker, &discover),
                Kind::Attach(attach) => self.attach(now, model, &asker, &attach),
                _ => Err(Dropped::Kind),
            },
            Ok(kind) => {
                let request = match kind {
                    Kind::Connect(connect) => Request::Connect(connect),
                    Kind::Renew(renew) => Request::Renew(renew.mli),
                    Kind::Release(release) => Request::Release(release.mli),
                    _ => return Err(Dropped::Kind),
                };
                self.request(now, model, asker, request)
            }
        }
    }

    /// What somebody who is attached asks for.
    fn request(&mut self, now: Now, model: &Model, asker: Asker, request: Request) -> Result<Vec<Effect>, Dropped> {
        if let Err(refusal) = self.is_attached(now, model, &asker) {
            return self.refuse(&asker, refusal);
        }
        let asker = asker.proven();
        match request {
            Request::Connect(connect) => self.connect(now, model, asker, connect),
            Request::Renew(mli) => self.renew(now, model, asker, mli),
            Request::Release(mli) => self.release(now, model, asker, mli),
        }
    }

    /// The outcome of an [`Effect::Propose`].
    pub fn committed(
        &mut self,
        now: Now,
        model: &Model,
        token: Token,
        outcome: Result<Reply, Unavailable>,
    ) -> Vec<Effect> {
        match self.flights.take(token) {
            Some(flight) => self.landed(now, model, flight, outcome),
            // Given up before; the endpoint asks again.
            None => Vec::new(),
        }
    }

    /// The outcome of an [`Effect::Await`].
    pub fn programmed(
        &mut self,
        now: Now,
        model: &Model,
        token: Token,
        outcome: Result<(), NotProgrammed>,
    ) -> Vec<Effect> {
        match self.flights.take(token) {
            Some(flight) => self.forwards(now, model, flight, outcome),
            None => Vec::new(),
        }
    }

    /// What time brings, and when to call again.
    pub fn tick(&mut self, now: Now, model: &Model) -> (Vec<Effect>, Option<Duration>) {
        self.flights.give_up(now.mono);
        self.members.expire(now.mono, |endpoint| {
            let place = self.places.get(&endpoint.port);
            place.is_some_and(|place| model.has_metalinks(&place.link, endpoint))
        });
        let withdrawn = self.wishes.expire(now.mono);
        let effects = withdrawn.into_iter().map(|wish| Effect::Close(wish, Closing::Withdrawn)).collect();
        let deadlines = [self.flights.next_deadline(), self.members.next_deadline(), self.wishes.next_deadline()];
        (effects, deadlines.into_iter().flatten().min())
    }

    /// Who came (true) and who went (false) since this was last asked.
    pub fn take_changes(&mut self) -> BTreeMap<Endpoint, bool> {
        self.members.take_changes()
    }

    /// How many endpoints are attached.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What endpoints were told.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn count_refusal(&mut self, code: RefusalCode) {
        *self.counts.refused.entry(code.into()).or_default() += 1;
    }
}

/// What may be asked for on the control MLI.
enum Request {
    Connect(dmux_wire::metalink::Connect),
    Renew(u32),
    Release(u32),
}

#[cfg(test)]
mod tests;
