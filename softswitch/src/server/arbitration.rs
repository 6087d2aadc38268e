//! Who may write: P4Runtime specification 1.4, section 5.
//!
//! Pure: streams are numbers, what is to be sent comes back as values, and nothing here knows gRPC. Each role has a
//! primary of its own, chosen as if there were no other role.

use std::collections::BTreeMap;
use std::sync::Arc;

use dmux_p4rt::RoleConfig;

use super::role::{Access, conflict};

/// Streams that may be open at once for one role (§5.3 rule 1.4); further ones are refused, not queued.
pub const MAX_CONTROLLERS: usize = 64;

/// Roles that are remembered: one that ever had a primary is for good, since its election ids only ever rise (§16.2).
pub const MAX_ROLES: usize = 64;

/// The longest name of a role, in bytes.
pub const MAX_ROLE_NAME: usize = 256;

/// One open StreamChannel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// An election id. `None` on the wire is "unset", which is below every set one, and is kept as `None` here:
/// zero is a value like any other (§16.2.1).
pub type ElectionId = u128;

/// What a controller asks for in a `MasterArbitrationUpdate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The device it wants to control.
    pub device_id: u64,
    /// The role's name; "" is the default role.
    pub role: String,
    /// The role configuration, if it sends one; `Err` says why it is none.
    pub config: Option<Result<Arc<RoleConfig>, String>>,
    /// Its election id, if set.
    pub election_id: Option<ElectionId>,
}

/// What a controller is told about the primary (§5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the primary (status OK).
    Primary,
    /// Another one is (status ALREADY_EXISTS).
    Backup,
    /// Nobody is (status NOT_FOUND).
    NoPrimary,
}

/// An advisory message to one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// To whom.
    pub stream: StreamId,
    /// What it says.
    pub standing: Standing,
    /// The highest election id that was ever seen from a primary of its role; `None` if there has not been one.
    pub highest: Option<ElectionId>,
}

/// Why a stream is ended (§5.3), each with its gRPC status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// NOT_FOUND.
    #[error("there is no device {asked} here: this switch is device {here}")]
    UnknownDevice {
        /// The device that was asked for.
        asked: u64,
        /// The one there is.
        here: u64,
    },
    /// FAILED_PRECONDITION.
    #[error("this stream is for device {here} and cannot be turned to device {asked}: open another stream")]
    DeviceChanged {
        /// The device that was asked for.
        asked: u64,
        /// The one the stream has.
        here: u64,
    },
    /// FAILED_PRECONDITION.
    #[error("this stream has the role \"{here}\" and cannot change to \"{asked}\": open another stream")]
    RoleChanged {
        /// The role that was asked for.
        asked: String,
        /// The one the stream has.
        here: String,
    },
    /// INVALID_ARGUMENT.
    #[error("a role's name has at most {MAX_ROLE_NAME} bytes")]
    RoleName,
    /// INVALID_ARGUMENT.
    #[error("{0}")]
    RoleConfig(String),
    /// INVALID_ARGUMENT.
    #[error("election id {0} is in use by another controller that is connected: election ids are unique in a role")]
    DuplicateElectionId(ElectionId),
    /// RESOURCE_EXHAUSTED.
    #[error("{MAX_CONTROLLERS} controllers of this role are connected already: close a stream first")]
    TooManyControllers,
    /// RESOURCE_EXHAUSTED.
    #[error("{MAX_ROLES} roles are known already, which is the most until the switch restarts")]
    TooManyRoles,
}

/// Why a request is not its primary's (§12, §14), each with its gRPC status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// NOT_FOUND.
    #[error("no controller has arbitrated for a role \"{0}\"")]
    UnknownRole(String),
    /// PERMISSION_DENIED.
    #[error("the request has no election id: only the primary may write")]
    NoElectionId,
    /// PERMISSION_DENIED.
    #[error("election id {0} is not the primary's: arbitrate on a stream and keep it open")]
    NotPrimary(ElectionId),
}

/// One role's controllers.
#[derive(Debug, Default)]
struct Role {
    live: BTreeMap<StreamId, Option<ElectionId>>,
    /// The highest id ever accepted. It outlives its controller: nobody below it becomes primary (§16.2).
    highest: Option<ElectionId>,
    primary: Option<StreamId>,
    /// What the last primary sent; `None` is full access.
    config: Option<Arc<RoleConfig>>,
}

/// The arbitration of one device and all its roles.
#[derive(Debug)]
pub struct Arbitration {
    device_id: u64,
    roles: BTreeMap<String, Role>,
    /// The role of each stream that has arbitrated.
    streams: BTreeMap<StreamId, String>,
}

impl Arbitration {
    /// No controller has ever connected.
    #[must_use]
    pub fn new(device_id: u64) -> Self {
        // The default role is there whoever asks for it.
        let roles = BTreeMap::from([(String::new(), Role::default())]);
        Self { device_id, roles, streams: BTreeMap::new() }
    }

    fn role(&self, stream: StreamId) -> Option<&Role> {
        self.roles.get(self.streams.get(&stream)?)
    }

    /// The role that a stream has, with the configuration that its last primary sent.
    #[must_use]
    pub fn role_of(&self, stream: StreamId) -> Option<(&str, Option<&Arc<RoleConfig>>)> {
        let name = self.streams.get(&stream)?;
        Some((name, self.roles.get(name)?.config.as_ref()))
    }

    /// The primaries of all roles that have one, with what they may do.
    pub fn primaries(&self) -> impl Iterator<Item = (StreamId, Access)> {
        self.roles.values().filter_map(|role| Some((role.primary?, Access::of(role.config.as_ref()))))
    }

    /// What this stream may do now; `None` unless it is the primary of its role.
    #[must_use]
    pub fn access(&self, stream: StreamId) -> Option<Access> {
        let role = self.role(stream)?;
        (role.primary == Some(stream)).then(|| Access::of(role.config.as_ref()))
    }

    /// What a role may do, whoever plays it.
    ///
    /// # Errors
    /// Nobody has ever played it.
    pub fn access_of_role(&self, role: &str) -> Result<Access, Denied> {
        let known = self.roles.get(role).ok_or_else(|| Denied::UnknownRole(role.to_owned()))?;
        Ok(Access::of(known.config.as_ref()))
    }

    /// What a request that carries this role and election id may do: its primary is connected, and an unset id is
    /// nobody's.
    ///
    /// # Errors
    /// The checks of §12, in its order.
    pub fn authorize(&self, role: &str, election_id: Option<ElectionId>) -> Result<Access, Denied> {
        let access = self.access_of_role(role)?;
        let id = election_id.ok_or(Denied::NoElectionId)?;
        match self.roles.get(role) {
            Some(role) if role.primary.is_some() && role.highest == Some(id) => Ok(access),
            _ => Err(Denied::NotPrimary(id)),
        }
    }

    /// Handles a `MasterArbitrationUpdate`. On `Err` the stream is to be ended and reported by
    /// [`Arbitration::disconnected`].
    ///
    /// # Errors
    /// The rules of §5.3, in its order.
    pub fn update(&mut self, stream: StreamId, request: &Request) -> Result<Vec<Notice>, Refusal> {
        let config = self.check(stream, request)?;
        self.streams.insert(stream, request.role.clone());
        let role = self.roles.entry(request.role.clone()).or_default();
        role.live.insert(stream, request.election_id);

        // `None` is below every set id, and an unset id never wins.
        if request.election_id.is_some() && request.election_id >= role.highest {
            role.highest = request.election_id;
            role.primary = Some(stream);
            role.config = config;
            return Ok(role.notices_to_all());
        }
        if role.primary == Some(stream) {
            role.primary = None;
            return Ok(role.notices_to_all());
        }
        Ok(vec![role.notice(stream)])
    }

    /// The rules; returns the role configuration that was sent.
    fn check(&self, stream: StreamId, request: &Request) -> Result<Option<Arc<RoleConfig>>, Refusal> {
        let assigned = self.streams.get(&stream);
        if request.device_id != self.device_id {
            let (asked, here) = (request.device_id, self.device_id);
            return Err(match assigned {
                None => Refusal::UnknownDevice { asked, here },
                Some(_) => Refusal::DeviceChanged { asked, here },
            });
        }
        if let Some(here) = assigned.filter(|here| **here != request.role) {
            return Err(Refusal::RoleChanged { asked: request.role.clone(), here: here.clone() });
        }
        if request.role.len() > MAX_ROLE_NAME {
            return Err(Refusal::RoleName);
        }
        let role = self.roles.get(&request.role);
        if let (Some(id), Some(role)) = (request.election_id, role)
            && role.live.iter().any(|(other, used)| *other != stream && *used == Some(id))
        {
            return Err(Refusal::DuplicateElectionId(id));
        }
        let config = match &request.config {
            None => None,
            Some(Err(why)) => return Err(Refusal::RoleConfig(why.clone())),
            Some(Ok(_)) if request.role.is_empty() => {
                let why = "the default role may do everything and takes no configuration: name a role".to_owned();
                return Err(Refusal::RoleConfig(why));
            }
            Some(Ok(config)) => {
                self.check_config(&request.role, config)?;
                Some(Arc::clone(config))
            }
        };
        if assigned.is_none() && role.is_some_and(|role| role.live.len() >= MAX_CONTROLLERS) {
            return Err(Refusal::TooManyControllers);
        }
        if role.is_none() && self.roles.len() >= MAX_ROLES {
            return Err(Refusal::TooManyRoles);
        }
        Ok(config)
    }

    /// What is exclusive to one role is no other's, as long as controllers of both are connected.
    fn check_config(&self, role: &str, config: &RoleConfig) -> Result<(), Refusal> {
        let others = self.roles.iter().filter(|(name, other)| *name != role && !other.live.is_empty());
        for (name, other) in others {
            if let Some(id) = other.config.as_ref().and_then(|other| conflict(config, other)) {
                return Err(Refusal::RoleConfig(format!(
                    "the role configuration names the P4 id {id}, which this role and \"{name}\" cannot both have: \
                     one of them has it exclusively"
                )));
            }
        }
        Ok(())
    }

    /// Handles the end of a stream. When it was a primary's, everybody else of its role is told that there is none now;
    /// nobody is promoted, since all the others have lower ids (§5).
    pub fn disconnected(&mut self, stream: StreamId) -> Vec<Notice> {
        let Some(name) = self.streams.remove(&stream) else { return Vec::new() };
        let Some(role) = self.roles.get_mut(&name) else { return Vec::new() };
        role.live.remove(&stream);
        let mut notices = Vec::new();
        if role.primary == Some(stream) {
            role.primary = None;
            notices = role.notices_to_all();
        }
        // A role that nobody ever led leaves nothing to remember.
        if !name.is_empty() && role.live.is_empty() && role.highest.is_none() {
            self.roles.remove(&name);
        }
        notices
    }
}

impl Role {
    fn notice(&self, stream: StreamId) -> Notice {
        let standing = match self.primary {
            Some(primary) if primary == stream => Standing::Primary,
            Some(_) => Standing::Backup,
            None => Standing::NoPrimary,
        };
        Notice { stream, standing, highest: self.highest }
    }

    /// Everybody's notice, the primary's last: the others must know before it may start to write (§5.3).
    fn notices_to_all(&self) -> Vec<Notice> {
        let others = self.live.keys().filter(|s| Some(**s) != self.primary);
        others.chain(self.primary.iter()).map(|s| self.notice(*s)).collect()
    }
}

#[cfg(test)]
mod tests;
