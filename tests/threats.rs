//! Which test proves what, row by row: of those who attack over HTTP, of those who lie in what they sign, and of those who send
//! or bring more than they may.
//!
//! The rows are those of the threat table: H for HTTP, websocket and localhost, A for convergence, rights and texts; of P, between
//! peers, and of I, invites, those about what somebody may keep and hand on. Behind the rows are scenarios: what somebody does
//! who has a plan.

use std::path::Path;

/// A row, what has to be so, and the tests that fail if it is not: file and name.
type Row = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const HOSTS: &str = "tests/who/hosts.rs";
const BROWSERS: &str = "tests/who/browsers.rs";
const ORIGINS: &str = "tests/apps/origins.rs";
const LIMITS: &str = "tests/protocol/limits.rs";
const HOSTILE: &str = "tests/real_input/hostile.rs";
const NAMED: &str = "tests/files/named.rs";
const ATTACKS: &str = "store/tests/rights/attacks.rs";
const ROOTS: &str = "store/tests/rights/succession.rs";
const TEXTS: &str = "store/tests/text/rules.rs";

const RIGHTS: &str = "store/tests/rights.rs";
const LEDGER: &str = "net/src/ledger/tests.rs";
const BLOBS: &str = "net/tests/blobs.rs";
const PLACEMENT: &str = "net/src/community/placement.rs";

const ROWS: [Row; 40] = [
    (
        "H1",
        "a page that got our address by its own name is turned away",
        &[
            (HOSTS, "foreign_hosts_are_turned_away_before_anything_else"),
            (HOSTS, "unclear_hosts_are_turned_away"),
            ("net/src/host.rs", "refuses_every_other_host"),
        ],
    ),
    ("H2", "a page of another site writes nothing", &[(BROWSERS, "a_page_may_write_only_from_our_origin_and_with_the_token")]),
    (
        "H3",
        "a page of another site reads nothing but what is for anyone, and no header says otherwise",
        &[(BROWSERS, "a_preflight_is_granted_nothing"), ("tests/who/guests.rs", "a_public_path_is_for_everybody_and_the_rest_for_nobody")],
    ),
    ("H4", "a page of another site opens no socket", &[(BROWSERS, "a_page_opens_a_socket_only_from_our_origin_and_says_its_token_first")]),
    (
        "H5",
        "an app has its own data and no other app's",
        &[
            (ORIGINS, "a_token_is_good_at_its_own_origin_alone"),
            (ORIGINS, "a_token_does_what_the_card_said_and_nothing_else"),
            (NAMED, "an_app_does_not_get_at_content_by_naming_it"),
            ("tests/apps/browser.rs", "a_page_of_another_origin_reads_and_writes_nothing"),
        ],
    ),
    ("H6", "an app stays in its origin", &[(ORIGINS, "every_answer_of_an_apps_origin_is_guarded"), (BROWSERS, "our_own_pages_let_nobody_in")]),
    (
        "H7",
        "what people stored is shown and never run",
        &[
            (BROWSERS, "what_people_stored_is_shown_but_never_run"),
            ("tests/files/media.rs", "hostile_media_is_served_as_what_it_is_and_never_run"),
            (ORIGINS, "what_people_stored_is_no_script_of_a_page"),
        ],
    ),
    (
        "H8",
        "who looks for peers on this machine is told nothing",
        &[(HOSTS, "foreign_hosts_are_turned_away_before_anything_else"), (BROWSERS, "a_preflight_is_granted_nothing")],
    ),
    (
        "H9",
        "another user of this machine is nobody",
        &[
            (HOSTS, "another_user_of_this_machine_is_nobody"),
            ("tests/who/files.rs", "nobody_else_can_read_a_home"),
            ("tests/who/files.rs", "secrets_are_in_no_log_and_on_no_command_line"),
        ],
    ),
    (
        "H10",
        "slow, large, costly and ambiguous requests harm nobody else",
        &[
            (LIMITS, "slow_senders_do_not_slow_others_and_are_let_go"),
            (LIMITS, "heads_that_are_too_large_are_refused"),
            (LIMITS, "bodies_that_are_too_large_are_refused_before_they_come"),
            ("tests/protocol/raw.rs", "no_second_request_hides_in_a_body"),
            ("net/src/server.rs", "strangers_do_not_keep_the_owner_out"),
            ("net/src/server.rs", "who_proves_who_he_is_stays_and_strangers_make_room"),
            ("tests/who/guests.rs", "whose_reading_costs_much_has_to_wait_and_nobody_else"),
            ("net/src/others.rs", "others_work_in_turns_and_the_owner_whenever_he_likes"),
            ("net/src/others.rs", "who_takes_nothing_has_few_threads_wait_for_him_and_no_turn"),
            ("net/src/others.rs", "writes_wait_in_the_order_in_which_they_came"),
            ("net/src/others.rs", "bodies_have_room_for_everybody_a_part"),
            ("tests/who/behalf.rs", "a_guest_who_costs_much_waits_and_the_owner_does_not"),
            ("tests/who/behalf.rs", "what_is_written_counts_and_not_what_was_sent"),
        ],
    ),
    (
        "H11",
        "many subscriptions cost little, and a page has only so many",
        &[
            ("tests/who/guests.rs", "those_who_read_nothing_share_what_they_do_not_read"),
            ("net/src/watch/snapshots.rs", "when_too_much_waits_nothing_long_begins_but_for_the_owner"),
            ("net/src/watch/snapshots.rs", "nobody_has_so_many_streams_at_one_address_or_with_one_key"),
            ("net/src/websocket/tests.rs", "who_takes_nothing_for_the_time_of_a_heartbeat_is_let_go"),
            ("tests/subscriptions/crowd.rs", "readers_who_take_nothing_cost_little"),
            ("tests/subscriptions/slow.rs", "who_does_not_read_gets_one_snapshot_and_the_final_state"),
            ("tests/subscriptions/contract.rs", "signs_of_life_come_as_often_as_asked_for"),
            (BROWSERS, "a_web_origin_has_so_many_subscriptions_over_all_its_connections"),
        ],
    ),
    (
        "H12",
        "one path has one key",
        &[
            (HOSTILE, "urls_of_the_web_platform_tests_name_one_key_each"),
            (HOSTILE, "percent_encodings_of_one_name_are_one_key"),
            (HOSTILE, "nothing_climbs_out_of_the_store"),
            ("net/src/target.rs", "no_traversal_string_leaves_its_place"),
            ("net/src/target.rs", "refuses_each_kind_of_bad_path"),
        ],
    ),
    (
        "H13",
        "JSON is kept exactly or refused",
        &[
            ("tests/real_input/json_suite.rs", "the_json_test_suite_is_kept_or_refused"),
            ("tests/store_over_http/errors.rs", "more_values_than_memory_is_good_for_are_refused"),
            ("tests/store_over_http/errors.rs", "a_refused_write_leaves_nothing_behind"),
        ],
    ),
    (
        "H14",
        "ranges and patches are checked before anything is done",
        &[
            ("net/src/patches/tests.rs", "refuses_bad_bodies"),
            ("net/src/patches/tests.rs", "refuses_bad_ranges"),
            (TEXTS, "edits_that_no_text_can_take_have_no_effect"),
        ],
    ),
    (
        "A1",
        "the same set of changes is the same state",
        &[
            ("store/tests/model.rs", "the_state_is_what_the_definition_says_in_any_order"),
            ("store/tests/rights.rs", "rights_are_what_the_definition_says_in_any_order"),
            ("store/tests/rights.rs", "every_weakened_rule_is_noticed"),
            ("store/tests/engine.rs", "what_was_acknowledged_outlives_a_crash_at_every_step"),
            ("store/tests/revoke.rs", "hiding_many_changes_and_showing_them_again_leaves_what_was"),
        ],
    ),
    (
        "A2",
        "two admins cannot throw each other out",
        &[(ATTACKS, "two_admins_cannot_throw_each_other_out"), ("store/tests/rights/small.rs", "all_small_worlds_are_as_defined")],
    ),
    (
        "A3",
        "what is dated back after a removal has no effect",
        &[
            (ATTACKS, "what_a_removed_admin_dates_back_has_no_effect"),
            ("tests/peers/rights.rs", "what_a_removed_member_wrote_unseen_is_hidden_listed_and_can_be_kept"),
        ],
    ),
    (
        "A4",
        "nobody vouches for what he could not have written",
        &[
            ("store/tests/model.rs", "the_state_is_what_the_definition_says_in_any_order"),
            ("store/tests/model.rs", "the_worlds_tell_who_may_vouch_for_whom"),
            ("store/tests/revoke.rs", "nobody_has_the_owner_vouch_for_what_was_hidden"),
        ],
    ),
    ("A5", "what a moderator keeps is kept in his scope", &[(ATTACKS, "what_a_moderator_keeps_is_kept_in_his_scope_only")]),
    (
        "A6",
        "a right counts at its path and nowhere else",
        &[
            ("tests/peers/rights.rs", "a_grant_to_write_counts_at_its_path_and_nowhere_else"),
            ("tests/who/guests.rs", "a_key_may_what_it_was_granted_until_that_is_taken_back"),
            (NAMED, "a_guest_does_not_get_at_content_by_naming_it"),
            (NAMED, "a_member_does_not_get_at_content_by_signing_that_she_has_it"),
        ],
    ),
    (
        "A7",
        "a stranger fills his own slots and nobody else's",
        &[
            (ATTACKS, "ones_own_folder_is_not_everybodys"),
            ("store/tests/inbox.rs", "what_is_no_notice_for_this_inbox_is_refused"),
            ("store/tests/inbox.rs", "one_sender_has_so_much_room_and_empties_it_himself"),
            ("store/tests/inbox.rs", "strangers_fill_no_more_than_the_inbox"),
        ],
    ),
    (
        "A8",
        "many values at one path are a page, and the next write settles them",
        &[
            ("store/src/node.rs", "a_hundred_thousand_values_at_one_path_cost_a_page"),
            ("store/tests/crash.rs", "more_conflicts_than_a_page_are_all_settled_and_all_deleted"),
        ],
    ),
    (
        "A9",
        "edits that do not fit have no effect, and the rest is what diamond-types makes of it",
        &[
            (TEXTS, "edits_that_no_text_can_take_have_no_effect"),
            (TEXTS, "a_base_must_be_events_of_the_text_in_the_past"),
            ("store/tests/text/dags.rs", "random_histories_give_what_diamond_types_and_the_model_give"),
        ],
    ),
    (
        "A10",
        "a text that takes too long waits, and nothing else does",
        &[
            ("store/tests/text/attacks.rs", "a_text_over_budget_is_parked_and_goes_on_when_given_more"),
            ("store/tests/texts/merging.rs", "a_text_over_its_budget_is_parked_and_comes_back_while_others_go_on"),
        ],
    ),
    // Peers compare no hashes of what they show, so one that is broken is not told (why: `net/PROTOCOL.md`, "Why so"); here all peers are
    // asked.
    ("A11", "peers that hold the same show the same", &[("net/tests/lab.rs", "peers_agree_whatever_happens")]),
    ("A12", "a stolen device is out, and cannot take over", &[("tests/peers/succession.rs", "a_stolen_device_is_out_and_cannot_take_over")]),
    (
        "A13",
        "of two new roots the better one counts, and equal ones are a dispute",
        &[
            (ROOTS, "the_better_class_wins_and_equal_ones_are_a_dispute"),
            (ROOTS, "two_beginnings_are_a_dispute_until_a_succession_decides"),
            ("tests/peers/succession.rs", "two_new_roots_freeze_a_space_until_the_words_decide"),
        ],
    ),
    ("A14", "guardians do not outvote the words", &[(ROOTS, "the_words_decide_what_guardians_could_not"), (ROOTS, "only_who_may_names_a_new_root")]),
    (
        "A15",
        "one friend who was talked into it moves nobody's name",
        &[
            ("tests/peers/rebind.rs", "one_friend_who_was_talked_into_it_moves_nobodys_name"),
            ("net/src/sys/rebind.rs", "several_new_keys_are_a_dispute_that_only_the_owners_word_ends"),
            ("net/src/lists/followed.rs", "moves_that_follow_each_other_do_so_whatever_the_clocks_say"),
        ],
    ),
    (
        "P4",
        "who sends what nobody signed takes little time from others",
        &[("net/src/network/storing.rs", "strangers_take_turns_and_rest_in_between")],
    ),
    (
        "P6",
        "who says two things is heard by all alike, and not from there on",
        &[
            ("store/tests/model.rs", "the_state_is_what_the_definition_says_in_any_order"),
            ("net/tests/sync/worlds.rs", "authors_who_fork_their_chain_split_nobody"),
            (LEDGER, "who_forks_his_chain_gets_no_more_room_and_is_not_shown"),
        ],
    ),
    ("P7", "what builds on nothing does not pile up", &[("net/tests/sync/liars.rs", "orphans_do_not_pile_up")]),
    (
        "P8",
        "nobody keeps more here than he may: not by forks, nor by keys of his own making",
        &[
            (LEDGER, "who_forks_his_chain_gets_no_more_room_and_is_not_shown"),
            (LEDGER, "who_has_many_keys_has_one_budget"),
            (LEDGER, "those_whom_one_member_let_in_share_a_room"),
            (LEDGER, "all_in_one_space_share_a_room"),
            (LEDGER, "who_lets_somebody_in_elsewhere_takes_him_out_of_no_room"),
            (LEDGER, "what_is_said_about_rights_has_a_bound"),
            ("net/src/whose.rs", "nobody_makes_the_device_of_another_his_own"),
        ],
    ),
    (
        "P9",
        "strangers fill no more than the inbox, and keep nobody out",
        &[
            ("net/src/places.rs", "strangers_keep_nobody_out"),
            ("net/src/link/tests/failing.rs", "a_stranger_leaves_for_who_is_known"),
            ("net/src/node/standing.rs", "what_somebody_proves_says_who_he_is_and_not_what_he_says"),
            ("tests/peers/finding.rs", "strangers_do_not_keep_out_who_has_an_invite_or_took_one"),
            ("store/tests/inbox.rs", "one_sender_has_so_much_room_and_empties_it_himself"),
            ("store/tests/inbox.rs", "strangers_fill_no_more_than_the_inbox"),
        ],
    ),
    (
        "P12",
        "whoever has only an attacker for neighbours finds those whom the owner knows as soon as they answer",
        &[
            ("net/src/node/introductions.rs", "who_is_surrounded_finds_those_whom_the_owner_knows_as_soon_as_they_answer"),
            ("net/src/node/book.rs", "hearsay_takes_no_place_of_what_is_known"),
        ],
    ),
    (
        "P17",
        "wrong bytes and wrong lengths of a file are found, and the rest comes from others",
        &[
            ("store/src/blobs/partial.rs", "no_byte_of_what_others_send_can_be_changed"),
            (BLOBS, "no_byte_of_a_frame_can_be_changed"),
            (BLOBS, "damage_is_found_and_the_rest_comes_from_others"),
            (BLOBS, "who_claims_another_length_keeps_nobody_out"),
        ],
    ),
    (
        "P20",
        "no key and no claim of a member brings him more than one copy, or takes the room of others",
        &[
            (PLACEMENT, "a_member_has_one_copy_whatever_he_claims_and_whatever_keys_he_grinds"),
            (PLACEMENT, "weights_are_what_is_offered_up_to_eight_times_the_middle"),
            ("net/src/community/holding.rs", "nobody_takes_the_room_of_others"),
        ],
    ),
    ("P21", "a record that is false or old leads nobody astray", &[("net/tests/finding.rs", "poisoned_and_old_records_are_refused")]),
    (
        "S9",
        "a file to which somebody refers just now is not removed",
        &[
            ("store/src/blobs/collect.rs", "no_new_reference_loses_its_bytes"),
            ("store/src/blobs/collect.rs", "writers_and_a_collector_at_once_lose_nothing"),
        ],
    ),
    (
        "I5",
        "whoever was let in gets no further, nor is he taken for another",
        &[
            (RIGHTS, "rights_are_what_the_definition_says_in_any_order"),
            (ATTACKS, "a_cascade_takes_all_that_was_handed_on"),
            ("net/src/people.rs", "nobody_is_somebody_else_by_his_own_word"),
            ("net/src/people.rs", "strangers_rename_nobody_and_take_nobodys_name"),
            ("net/src/network/authors.rs", "a_guest_is_nobody_who_is_known_by_his_own_word"),
        ],
    ),
];

const PEERS: &str = "tests/peers/rights.rs";
const FORKS: &str = "tests/peers/forks.rs";
const JOINING: &str = "tests/peers/joining.rs";

/// What attackers with a plan do, against real peers where that shows more than the rules alone.
const SCENARIOS: [Row; 10] = [
    (
        "duel of admins",
        "nobody throws out who does not stand below him",
        &[
            (PEERS, "admins_do_not_throw_each_other_out_and_nobody_the_one_who_let_him_in"),
            (ATTACKS, "two_admins_cannot_throw_each_other_out"),
            (FORKS, "an_admin_who_forks_his_chain_throws_nobody_out_and_splits_nobody"),
        ],
    ),
    (
        "backdated writes and grants",
        "what a removed one says as if it were yesterday is hidden, and lets nobody in",
        &[
            (PEERS, "what_a_removed_member_wrote_unseen_is_hidden_listed_and_can_be_kept"),
            (PEERS, "whom_a_removed_member_lets_in_afterwards_is_not_in"),
            (ATTACKS, "what_a_removed_admin_dates_back_has_no_effect"),
        ],
    ),
    (
        "escalation by vouching",
        "who builds on what was hidden does not bring it back, unless he may write it himself",
        &[
            (PEERS, "who_may_write_elsewhere_brings_nothing_back_by_building_on_it"),
            ("store/tests/revoke.rs", "nobody_has_the_owner_vouch_for_what_was_hidden"),
            ("store/tests/model.rs", "the_worlds_tell_who_may_vouch_for_whom"),
        ],
    ),
    (
        "stolen device",
        "it is out, what it wrote unseen counts nowhere, and without the words it cannot rotate, nor has it another one thrown out",
        &[
            ("tests/peers/succession.rs", "a_stolen_device_is_out_and_cannot_take_over"),
            ("tests/peers/devices.rs", "what_a_stolen_device_made_is_named_and_can_go_with_it"),
            ("tests/peers/called.rs", "a_stolen_device_has_no_other_one_thrown_out_by_its_name"),
        ],
    ),
    (
        "seen sheet",
        "whoever has the words of before a rotation, or their disk, gets nothing, and freezes the space at most until guardians decide",
        &[
            (ROOTS, "an_old_sheet_lets_nobody_in_after_two_steps"),
            (ROOTS, "an_old_sheet_freezes_and_lets_nobody_in_and_guardians_decide"),
            ("tests/peers/succession.rs", "an_old_sheet_brings_nothing_back_after_a_rotation"),
            ("tests/peers/succession.rs", "two_roots_by_one_sheet_freeze_a_space_until_guardians_decide"),
        ],
    ),
    (
        "replaced root",
        "two new roots by guardians freeze a space, and the words decide; a request is compared by voice, word by word",
        &[
            ("tests/peers/succession.rs", "two_new_roots_freeze_a_space_until_the_words_decide"),
            ("tests/peers/succession.rs", "words_are_those_of_the_root_that_the_space_has_now_wherever_it_took_over"),
            ("tests/peers/succession.rs", "guardians_bring_a_space_back_of_which_everything_was_lost"),
            (ROOTS, "the_words_of_a_request_are_of_all_that_it_asks"),
        ],
    ),
    (
        "leaked invite",
        "whoever looks uses nothing up, one gets in by an invite for one, and all who came by it can be put out",
        &[
            (JOINING, "looking_at_a_link_consumes_nothing_and_leaves_no_trace"),
            (JOINING, "an_invite_for_one_is_given_to_one_however_many_race"),
            (JOINING, "what_is_used_up_revoked_or_expired_is_refused_in_words"),
            (PEERS, "what_an_invite_gave_can_be_taken_back"),
        ],
    ),
    // With 4 000 of them; a command runs 100 000, since so many signatures take minutes without optimization.
    (
        "100 000 strangers at one inbox",
        "they fill no more than the inbox, and the latest are there",
        &[("store/tests/inbox.rs", "strangers_fill_no_more_than_the_inbox"), ("store/tests/inbox.rs", "any_order_of_delivery_gives_the_same_inbox")],
    ),
    (
        "a guest who knows the source",
        "he gives nothing to everybody, is no keeper, and what a peer writes for him is not taken for its owner's word",
        &[
            ("net/src/authority.rs", "what_a_guest_gives_himself_or_everybody_counts_for_nothing"),
            ("net/src/authority.rs", "a_guest_is_not_written_for_where_the_owners_word_counts"),
            ("net/src/network/authors.rs", "keys_to_which_a_guest_hands_on_what_he_may_have_his_room"),
            ("tests/who/guests.rs", "a_guest_takes_no_more_memory_than_he_needs"),
            ("store/tests/spaces.rs", "a_guest_has_no_word_where_the_owners_counts"),
            ("store/tests/spaces.rs", "a_guest_does_not_use_up_an_invite"),
            ("tests/peers/revoked.rs", "who_hands_something_on_to_the_owner_is_thrown_out_all_the_same"),
            ("tests/peers/communities.rs", "nobody_is_taken_for_a_device_of_somebody_else"),
            ("net/src/used.rs", "who_signs_much_shuts_out_nobody_else"),
            ("store/tests/spaces.rs", "nobody_takes_a_name_of_a_version_so_that_a_write_gets_lost"),
            ("net/src/blobs/cache.rs", "what_guests_name_stays_as_far_as_they_have_room"),
        ],
    ),
    (
        "quota and forks",
        "no branch of a forked chain has room of its own, and who floods is in nobody's way",
        &[
            (LEDGER, "who_forks_his_chain_gets_no_more_room_and_is_not_shown"),
            (LEDGER, "who_builds_on_another_branch_of_a_forked_chain_pays_for_it"),
            (FORKS, "a_quota_is_not_doubled_by_a_fork_and_all_agree_on_what_counts"),
            (FORKS, "what_one_may_keep_with_the_owner_is_not_doubled_by_a_fork"),
            ("tests/peers/costs.rs", "whoever_writes_too_much_locks_nobody_out"),
        ],
    ),
];

/// Whether a file has a test of a name that is run.
fn is_run(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let head = format!("fn {name}(");
    lines.iter().enumerate().any(|(at, line)| {
        let is_head = line.split_once(&head).is_some_and(|(before, _)| before.is_empty() || before == "async ");
        let above = lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("///"));
        let above: Vec<&&str> = above.collect();
        is_head && above.iter().any(|line| line.contains("test")) && !above.iter().any(|line| line.starts_with("#[ignore"))
    })
}

#[test]
fn every_row_names_tests_that_are_run() {
    let others = ["P4", "P6", "P7", "P8", "P9", "P12", "P17", "P20", "P21", "S9", "I5"].map(str::to_owned);
    let expected = (1..=14).map(|n| format!("H{n}")).chain((1..=15).map(|n| format!("A{n}"))).chain(others);
    assert_eq!(ROWS.iter().map(|row| row.0).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (row, what, tests) in ROWS.into_iter().chain(SCENARIOS) {
        assert!(!what.is_empty() && !tests.is_empty(), "{row}");
        for (file, name) in tests {
            let text = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{row}: {file}: {error}"));
            assert!(is_run(&text, name), "{row}: {file} has no test {name} that is run");
        }
    }
}

#[test]
fn only_tests_that_are_run_count() {
    let text = "#[test]\nfn one() {}\n#[tokio::test]\nasync fn two() {}\n#[test]\n#[ignore = \"slow\"]\nfn three() {}\nfn four() {}\n";
    assert!(is_run(text, "one") && is_run(text, "two"));
    assert!(!is_run(text, "three") && !is_run(text, "four") && !is_run(text, "on"));
}
