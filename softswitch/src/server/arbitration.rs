//! Who may write: P4Runtime specification 1.4, section 5.
//!
//! Pure: streams are numbers, what is to be sent comes back as values, and nothing here knows gRPC.

use std::collections::BTreeMap;

/// Streams that may be open at once for a device (§5.3 rule 1.4); further ones are refused, not queued.
pub const MAX_CONTROLLERS: usize = 64;

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
    /// The role's name; only the default role, "", exists here.
    pub role: String,
    /// Whether it sends a role configuration; none is defined here.
    pub has_role_config: bool,
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
    /// The highest election id that was ever seen from a primary; `None` if there has not been one.
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
    #[error("this stream has the default role and cannot change to role \"{0}\": open another stream")]
    RoleChanged(String),
    /// UNIMPLEMENTED.
    #[error("role \"{0}\" does not exist: this switch has the default role only, so leave the role unset")]
    UnknownRole(String),
    /// INVALID_ARGUMENT.
    #[error("a role configuration was sent, but none is defined for the default role: leave it unset")]
    RoleConfig,
    /// INVALID_ARGUMENT.
    #[error("election id {0} is in use by another controller that is connected: election ids are unique")]
    DuplicateElectionId(ElectionId),
    /// RESOURCE_EXHAUSTED.
    #[error("{MAX_CONTROLLERS} controllers are connected already: close a stream first")]
    TooManyControllers,
}

/// The arbitration of one device and its default role.
#[derive(Debug)]
pub struct Arbitration {
    device_id: u64,
    live: BTreeMap<StreamId, Option<ElectionId>>,
    /// The highest id ever accepted. It outlives its controller: nobody below it becomes primary (§16.2).
    highest: Option<ElectionId>,
    primary: Option<StreamId>,
}

impl Arbitration {
    /// No controller has ever connected.
    #[must_use]
    pub fn new(device_id: u64) -> Self {
        Self { device_id, live: BTreeMap::new(), highest: None, primary: None }
    }

    /// The stream of the primary.
    #[must_use]
    pub fn primary(&self) -> Option<StreamId> {
        self.primary
    }

    /// Whether a request that carries this election id comes from the primary: the primary is connected, and an
    /// unset id is nobody's.
    #[must_use]
    pub fn is_primary(&self, election_id: Option<ElectionId>) -> bool {
        election_id.is_some() && self.primary.is_some() && election_id == self.highest
    }

    /// Handles a `MasterArbitrationUpdate`. On `Err` the stream is to be ended and reported by
    /// [`Arbitration::disconnected`].
    ///
    /// # Errors
    /// The rules of §5.3, in its order.
    pub fn update(&mut self, stream: StreamId, request: &Request) -> Result<Vec<Notice>, Refusal> {
        let first = !self.live.contains_key(&stream);
        if request.device_id != self.device_id {
            let (asked, here) = (request.device_id, self.device_id);
            return Err(if first {
                Refusal::UnknownDevice { asked, here }
            } else {
                Refusal::DeviceChanged { asked, here }
            });
        }
        if !request.role.is_empty() {
            let role = request.role.clone();
            return Err(if first { Refusal::UnknownRole(role) } else { Refusal::RoleChanged(role) });
        }
        if request.has_role_config {
            return Err(Refusal::RoleConfig);
        }
        if let Some(id) = request.election_id
            && self.live.iter().any(|(other, used)| *other != stream && *used == Some(id))
        {
            return Err(Refusal::DuplicateElectionId(id));
        }
        if first && self.live.len() >= MAX_CONTROLLERS {
            return Err(Refusal::TooManyControllers);
        }
        self.live.insert(stream, request.election_id);

        // `None` is below every set id, and an unset id never wins.
        if request.election_id.is_some() && request.election_id >= self.highest {
            self.highest = request.election_id;
            self.primary = Some(stream);
            return Ok(self.notices_to_all());
        }
        if self.primary == Some(stream) {
            self.primary = None;
            return Ok(self.notices_to_all());
        }
        Ok(vec![self.notice(stream)])
    }

    /// Handles the end of a stream. When it was the primary's, everybody else is told that there is none now;
    /// nobody is promoted, since all the others have lower ids (§5).
    pub fn disconnected(&mut self, stream: StreamId) -> Vec<Notice> {
        self.live.remove(&stream);
        if self.primary != Some(stream) {
            return Vec::new();
        }
        self.primary = None;
        self.notices_to_all()
    }

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
mod tests {
    use super::*;

    const DEVICE: u64 = 7;
    const A: StreamId = StreamId(1);
    const B: StreamId = StreamId(2);
    const C: StreamId = StreamId(3);

    fn request(election_id: impl Into<Option<u128>>) -> Request {
        Request { device_id: DEVICE, role: String::new(), has_role_config: false, election_id: election_id.into() }
    }

    fn arbitration() -> Arbitration {
        Arbitration::new(DEVICE)
    }

    fn notice(stream: StreamId, standing: Standing, highest: impl Into<Option<u128>>) -> Notice {
        Notice { stream, standing, highest: highest.into() }
    }

    /// An arbitration where A is primary with 10 and B is backup with 5.
    fn a_leads_b() -> Arbitration {
        let mut it = arbitration();
        it.update(A, &request(10)).unwrap();
        it.update(B, &request(5)).unwrap();
        it
    }

    #[test]
    fn the_first_controller_with_an_id_becomes_primary_and_is_told_ok() {
        let mut it = arbitration();
        assert_eq!(it.update(A, &request(1)).unwrap(), [notice(A, Standing::Primary, 1)]);
        assert!(it.is_primary(Some(1)));
    }

    #[test]
    fn zero_is_an_id_like_any_other() {
        let mut it = arbitration();
        assert_eq!(it.update(A, &request(0)).unwrap(), [notice(A, Standing::Primary, 0)]);
        assert!(it.is_primary(Some(0)));
    }

    #[test]
    fn a_controller_with_a_lower_id_is_backup_and_only_it_is_told() {
        let mut it = arbitration();
        it.update(A, &request(10)).unwrap();
        assert_eq!(it.update(B, &request(5)).unwrap(), [notice(B, Standing::Backup, 10)]);
        assert!(!it.is_primary(Some(5)));
    }

    #[test]
    fn a_controller_with_a_higher_id_takes_over_and_the_old_primary_hears_it_first() {
        let mut it = a_leads_b();
        let told = it.update(C, &request(11)).unwrap();
        assert_eq!(
            told,
            [notice(A, Standing::Backup, 11), notice(B, Standing::Backup, 11), notice(C, Standing::Primary, 11)]
        );
        assert!(!it.is_primary(Some(10)));
        assert!(it.is_primary(Some(11)));
    }

    #[test]
    fn a_controller_with_an_unset_id_is_never_primary_even_when_alone() {
        let mut it = arbitration();
        assert_eq!(it.update(A, &request(None)).unwrap(), [notice(A, Standing::NoPrimary, None)]);
        assert!(!it.is_primary(None));
    }

    #[test]
    fn any_number_of_controllers_may_leave_their_id_unset() {
        let mut it = arbitration();
        it.update(A, &request(None)).unwrap();
        assert!(it.update(B, &request(None)).is_ok());
    }

    #[test]
    fn a_request_without_an_id_is_nobodys_even_while_there_is_a_primary() {
        assert!(!a_leads_b().is_primary(None));
    }

    #[test]
    fn a_duplicate_id_ends_the_second_stream_and_the_primary_stays() {
        let mut it = a_leads_b();
        assert_eq!(it.update(C, &request(10)), Err(Refusal::DuplicateElectionId(10)));
        assert!(it.disconnected(C).is_empty());
        assert_eq!(it.primary(), Some(A));
    }

    #[test]
    fn a_controller_may_repeat_its_own_id_and_stays_primary() {
        let mut it = a_leads_b();
        let told = it.update(A, &request(10)).unwrap();
        assert_eq!(told, [notice(B, Standing::Backup, 10), notice(A, Standing::Primary, 10)]);
    }

    #[test]
    fn a_live_controller_may_not_move_to_an_id_in_use() {
        assert_eq!(a_leads_b().update(B, &request(10)), Err(Refusal::DuplicateElectionId(10)));
    }

    #[test]
    fn when_the_primary_disconnects_the_others_hear_that_there_is_none_and_nobody_is_promoted() {
        let mut it = a_leads_b();
        assert_eq!(it.disconnected(A), [notice(B, Standing::NoPrimary, 10)]);
        assert_eq!(it.primary(), None);
        assert!(!it.is_primary(Some(10)));
        assert!(!it.is_primary(Some(5)));
    }

    #[test]
    fn when_a_backup_disconnects_nobody_is_told() {
        assert!(a_leads_b().disconnected(B).is_empty());
    }

    #[test]
    fn after_the_primary_is_gone_a_lower_id_than_the_highest_seen_stays_backup() {
        let mut it = a_leads_b();
        it.disconnected(A);
        assert_eq!(it.update(B, &request(9)).unwrap(), [notice(B, Standing::NoPrimary, 10)]);
        assert_eq!(it.primary(), None);
    }

    #[test]
    fn after_the_primary_is_gone_the_highest_id_seen_may_be_taken_up_again() {
        let mut it = a_leads_b();
        it.disconnected(A);
        assert_eq!(
            it.update(C, &request(10)).unwrap(),
            [notice(B, Standing::Backup, 10), notice(C, Standing::Primary, 10)]
        );
    }

    #[test]
    fn a_backup_that_raises_its_id_becomes_primary() {
        let mut it = a_leads_b();
        let told = it.update(B, &request(12)).unwrap();
        assert_eq!(told, [notice(A, Standing::Backup, 12), notice(B, Standing::Primary, 12)]);
    }

    #[test]
    fn a_primary_that_lowers_its_id_steps_down_and_all_are_told() {
        let mut it = a_leads_b();
        let told = it.update(A, &request(3)).unwrap();
        assert_eq!(told, [notice(A, Standing::NoPrimary, 10), notice(B, Standing::NoPrimary, 10)]);
        assert!(!it.is_primary(Some(10)));
    }

    #[test]
    fn a_primary_that_unsets_its_id_steps_down() {
        let mut it = a_leads_b();
        it.update(A, &request(None)).unwrap();
        assert_eq!(it.primary(), None);
    }

    #[test]
    fn a_wrong_device_is_not_found_at_first_and_a_failed_precondition_later() {
        let wrong = Request { device_id: 8, ..request(1) };
        assert_eq!(arbitration().update(A, &wrong), Err(Refusal::UnknownDevice { asked: 8, here: 7 }));
        assert_eq!(a_leads_b().update(A, &wrong), Err(Refusal::DeviceChanged { asked: 8, here: 7 }));
    }

    #[test]
    fn a_role_other_than_the_default_is_refused() {
        let role = Request { role: "sdn".to_owned(), ..request(1) };
        assert_eq!(arbitration().update(A, &role), Err(Refusal::UnknownRole("sdn".to_owned())));
        assert_eq!(a_leads_b().update(A, &role), Err(Refusal::RoleChanged("sdn".to_owned())));
    }

    #[test]
    fn a_role_configuration_is_refused() {
        let config = Request { has_role_config: true, ..request(1) };
        assert_eq!(arbitration().update(A, &config), Err(Refusal::RoleConfig));
    }

    #[test]
    fn streams_beyond_the_limit_are_refused_and_a_closed_one_makes_room() {
        let mut it = arbitration();
        for stream in 0..MAX_CONTROLLERS as u64 {
            it.update(StreamId(100 + stream), &request(None)).unwrap();
        }
        assert_eq!(it.update(A, &request(1)), Err(Refusal::TooManyControllers));
        it.disconnected(StreamId(100));
        assert!(it.update(A, &request(1)).is_ok());
    }

    #[test]
    fn at_most_one_controller_is_ever_primary() {
        // Every short history of three controllers with ids 1 to 3 or unset, including disconnections.
        let moves: Vec<(StreamId, Option<Option<u128>>)> = [A, B, C]
            .into_iter()
            .flat_map(|s| [None, Some(None), Some(Some(1)), Some(Some(2)), Some(Some(3))].map(|m| (s, m)))
            .collect();
        for history in 0..moves.len().pow(4) {
            let mut it = arbitration();
            let mut highest = None;
            for step in 0..4 {
                let (stream, action) = moves[history / moves.len().pow(step) % moves.len()];
                match action {
                    None => drop(it.disconnected(stream)),
                    Some(id) => {
                        if it.update(stream, &request(id)).is_err() {
                            it.disconnected(stream);
                        } else {
                            highest = highest.max(id);
                        }
                    }
                }
                assert_eq!(it.highest, highest);
                if let Some(primary) = it.primary {
                    assert_eq!(it.live.get(&primary), Some(&highest), "the primary holds the highest id ever seen");
                }
            }
        }
    }
}
