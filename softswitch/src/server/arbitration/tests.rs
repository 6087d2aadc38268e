use super::*;

const DEVICE: u64 = 7;
const A: StreamId = StreamId(1);
const B: StreamId = StreamId(2);
const C: StreamId = StreamId(3);

fn request(election_id: impl Into<Option<u128>>) -> Request {
    Request { device_id: DEVICE, role: String::new(), config: None, election_id: election_id.into() }
}

fn may_write(it: &Arbitration, election_id: Option<u128>) -> bool {
    it.authorize("", election_id).is_ok()
}

/// The primary of the default role.
fn primary(it: &Arbitration) -> Option<StreamId> {
    it.roles[""].primary
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
    assert!(may_write(&it, Some(1)));
}

#[test]
fn zero_is_an_id_like_any_other() {
    let mut it = arbitration();
    assert_eq!(it.update(A, &request(0)).unwrap(), [notice(A, Standing::Primary, 0)]);
    assert!(may_write(&it, Some(0)));
}

#[test]
fn a_controller_with_a_lower_id_is_backup_and_only_it_is_told() {
    let mut it = arbitration();
    it.update(A, &request(10)).unwrap();
    assert_eq!(it.update(B, &request(5)).unwrap(), [notice(B, Standing::Backup, 10)]);
    assert!(!may_write(&it, Some(5)));
}

#[test]
fn a_controller_with_a_higher_id_takes_over_and_the_old_primary_hears_it_first() {
    let mut it = a_leads_b();
    let told = it.update(C, &request(11)).unwrap();
    assert_eq!(
        told,
        [notice(A, Standing::Backup, 11), notice(B, Standing::Backup, 11), notice(C, Standing::Primary, 11)]
    );
    assert!(!may_write(&it, Some(10)));
    assert!(may_write(&it, Some(11)));
}

#[test]
fn a_controller_with_an_unset_id_is_never_primary_even_when_alone() {
    let mut it = arbitration();
    assert_eq!(it.update(A, &request(None)).unwrap(), [notice(A, Standing::NoPrimary, None)]);
    assert!(!may_write(&it, None));
}

#[test]
fn any_number_of_controllers_may_leave_their_id_unset() {
    let mut it = arbitration();
    it.update(A, &request(None)).unwrap();
    assert!(it.update(B, &request(None)).is_ok());
}

#[test]
fn a_request_without_an_id_is_nobodys_even_while_there_is_a_primary() {
    assert!(!may_write(&a_leads_b(), None));
}

#[test]
fn a_duplicate_id_ends_the_second_stream_and_the_primary_stays() {
    let mut it = a_leads_b();
    assert_eq!(it.update(C, &request(10)), Err(Refusal::DuplicateElectionId(10)));
    assert!(it.disconnected(C).is_empty());
    assert_eq!(primary(&it), Some(A));
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
    assert_eq!(primary(&it), None);
    assert!(!may_write(&it, Some(10)));
    assert!(!may_write(&it, Some(5)));
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
    assert_eq!(primary(&it), None);
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
    assert!(!may_write(&it, Some(10)));
}

#[test]
fn a_primary_that_unsets_its_id_steps_down() {
    let mut it = a_leads_b();
    it.update(A, &request(None)).unwrap();
    assert_eq!(primary(&it), None);
}

#[test]
fn a_wrong_device_is_not_found_at_first_and_a_failed_precondition_later() {
    let wrong = Request { device_id: 8, ..request(1) };
    assert_eq!(arbitration().update(A, &wrong), Err(Refusal::UnknownDevice { asked: 8, here: 7 }));
    assert_eq!(a_leads_b().update(A, &wrong), Err(Refusal::DeviceChanged { asked: 8, here: 7 }));
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
            let role = &it.roles[""];
            assert_eq!(role.highest, highest);
            if let Some(primary) = role.primary {
                assert_eq!(role.live.get(&primary), Some(&highest), "the primary holds the highest id ever seen");
            }
        }
    }
}

// Roles: §5.1 and §5.2.

fn role(name: &str, election_id: impl Into<Option<u128>>) -> Request {
    Request { role: name.to_owned(), ..request(election_id) }
}

fn config(ids: &[u32]) -> Arc<RoleConfig> {
    Arc::new(RoleConfig { exclusive_p4_ids: ids.to_vec(), ..RoleConfig::default() })
}

fn with_config(name: &str, election_id: u128, ids: &[u32]) -> Request {
    Request { config: Some(Ok(config(ids))), ..role(name, election_id) }
}

#[test]
fn each_role_has_a_primary_of_its_own_and_the_same_election_id_may_serve_in_both() {
    let mut it = arbitration();
    assert_eq!(it.update(A, &request(1)).unwrap(), [notice(A, Standing::Primary, 1)]);
    assert_eq!(it.update(B, &role("sdn", 1)).unwrap(), [notice(B, Standing::Primary, 1)]);
    assert!(it.authorize("", Some(1)).is_ok());
    assert!(it.authorize("sdn", Some(1)).is_ok());
    assert_eq!(it.primaries().map(|(stream, _)| stream).collect::<Vec<_>>(), [A, B]);
}

#[test]
fn an_election_id_in_use_ends_the_stream_only_within_the_same_role() {
    let mut it = arbitration();
    it.update(A, &role("sdn", 1)).unwrap();
    assert_eq!(it.update(B, &role("sdn", 1)), Err(Refusal::DuplicateElectionId(1)));
    assert!(it.update(C, &role("other", 1)).is_ok());
}

#[test]
fn a_change_of_primary_is_told_to_the_controllers_of_that_role_only() {
    let mut it = arbitration();
    it.update(A, &role("sdn", 1)).unwrap();
    it.update(B, &role("other", 1)).unwrap();
    let told = it.update(C, &role("sdn", 2)).unwrap();
    assert_eq!(told, [notice(A, Standing::Backup, 2), notice(C, Standing::Primary, 2)]);
    assert_eq!(it.disconnected(C), [notice(A, Standing::NoPrimary, 2)]);
}

#[test]
fn a_request_of_a_role_that_nobody_plays_is_not_found_and_of_a_wrong_id_is_denied() {
    let mut it = arbitration();
    assert_eq!(it.authorize("sdn", Some(1)), Err(Denied::UnknownRole("sdn".to_owned())));
    it.update(A, &role("sdn", 1)).unwrap();
    assert_eq!(it.authorize("sdn", Some(2)), Err(Denied::NotPrimary(2)));
    assert_eq!(it.authorize("sdn", None), Err(Denied::NoElectionId));
    assert_eq!(it.authorize("", Some(1)), Err(Denied::NotPrimary(1)), "its id counts in its role only");
}

#[test]
fn a_stream_cannot_change_its_role() {
    let mut it = arbitration();
    it.update(A, &request(1)).unwrap();
    let changed = Refusal::RoleChanged { asked: "sdn".to_owned(), here: String::new() };
    assert_eq!(it.update(A, &role("sdn", 1)), Err(changed));
    it.update(B, &role("sdn", 1)).unwrap();
    let changed = Refusal::RoleChanged { asked: String::new(), here: "sdn".to_owned() };
    assert_eq!(it.update(B, &request(2)), Err(changed));
}

#[test]
fn a_role_without_configuration_may_do_everything() {
    let mut it = arbitration();
    it.update(A, &role("sdn", 1)).unwrap();
    assert!(it.authorize("sdn", Some(1)).unwrap().is_full());
}

#[test]
fn the_configuration_of_a_role_is_what_its_primary_sent_last() {
    let mut it = arbitration();
    it.update(A, &with_config("sdn", 5, &[1])).unwrap();
    assert!(it.authorize("sdn", Some(5)).unwrap().covers(1));
    // A backup's is not taken up.
    it.update(B, &with_config("sdn", 4, &[2])).unwrap();
    assert_eq!(it.role_of(B), Some(("sdn", Some(&config(&[1])))));
    assert!(!it.authorize("sdn", Some(5)).unwrap().covers(2));
    // The primary changes it on its stream, and all hear of it.
    let told = it.update(A, &with_config("sdn", 5, &[3])).unwrap();
    assert_eq!(told, [notice(B, Standing::Backup, 5), notice(A, Standing::Primary, 5)]);
    assert_eq!(it.role_of(B), Some(("sdn", Some(&config(&[3])))));
    // An unset one is full access.
    it.update(A, &role("sdn", 5)).unwrap();
    assert!(it.authorize("sdn", Some(5)).unwrap().is_full());
}

#[test]
fn a_configuration_that_is_not_understood_is_an_invalid_argument() {
    let request = Request { config: Some(Err("no such type".to_owned())), ..role("sdn", 1) };
    assert_eq!(arbitration().update(A, &request), Err(Refusal::RoleConfig("no such type".to_owned())));
    let for_default = Request { config: Some(Ok(config(&[1]))), ..self::request(1) };
    assert!(matches!(arbitration().update(A, &for_default), Err(Refusal::RoleConfig(_))));
}

#[test]
fn what_one_role_has_exclusively_no_other_gets_while_its_controllers_are_connected() {
    let mut it = arbitration();
    it.update(A, &with_config("one", 1, &[7])).unwrap();
    match it.update(B, &with_config("two", 1, &[6, 7])) {
        Err(Refusal::RoleConfig(why)) => assert!(why.contains('7') && why.contains("one"), "{why}"),
        other => panic!("{other:?}"),
    }
    it.disconnected(B);
    it.disconnected(A);
    assert!(it.update(B, &with_config("two", 1, &[6, 7])).is_ok());
}

#[test]
fn a_role_that_had_a_primary_keeps_its_highest_election_id_when_all_have_left() {
    let mut it = arbitration();
    it.update(A, &role("sdn", 9)).unwrap();
    it.disconnected(A);
    assert_eq!(it.update(B, &role("sdn", 8)).unwrap(), [notice(B, Standing::NoPrimary, 9)]);
}

#[test]
fn a_role_that_nobody_ever_led_is_forgotten_with_its_last_controller() {
    let mut it = arbitration();
    for name in 0..2 * MAX_ROLES {
        it.update(A, &role(&name.to_string(), None)).unwrap();
        it.disconnected(A);
    }
    assert_eq!(it.authorize("3", Some(1)), Err(Denied::UnknownRole("3".to_owned())));
}

#[test]
fn roles_and_their_names_are_bounded() {
    let mut it = arbitration();
    for name in 1..MAX_ROLES as u64 {
        it.update(StreamId(name), &role(&name.to_string(), 1)).unwrap();
    }
    assert_eq!(it.update(StreamId(999), &role("one more", 1)), Err(Refusal::TooManyRoles));
    assert!(it.update(StreamId(998), &role("1", 2)).is_ok(), "a known role takes more controllers");
    assert_eq!(arbitration().update(A, &role(&"x".repeat(MAX_ROLE_NAME + 1), 1)), Err(Refusal::RoleName));
}
