//! Conformance tests for every database of the ledger, written once: [`contract!`] runs them all against one.
//!
//! An engine is a [`Store`] that writes and a [`LedgerReader`] that finds. What both mean is said at their traits; here it is held. A crate
//! of its own and not a feature of the model, so that testing does not compile everything that is built on the model anew.
//!
//! ```ignore
//! struct Mine { /* a ledger of its own */ }
//!
//! impl gnomon_ledger_contract::Engine for Mine { /* how to open it */ }
//!
//! gnomon_ledger_contract::contract!(Mine::new());
//! ```
//!
//! Failures of a machine (a full disk, a lost connection, a kill) differ between engines and are not here.
#![deny(missing_docs)]
// All of it is tests, of the engines that run them.
#![allow(clippy::unwrap_used)]

pub mod appending;
pub mod decisions;
pub mod filtering;
pub mod finding;
pub mod inventory;
mod stage;
pub mod trimming;
pub mod volume;

use gnomon_ledger_model::{Keep, LedgerReader, Store};
use std::future::Future;

/// A ledger in some database, empty at first and no other test's.
pub trait Engine {
    /// Opens it for writing; the one before was closed.
    fn store(&self, keep: Keep) -> impl Future<Output = Box<dyn Store>>;
    /// Opens it for reading; it was written before.
    fn reader(&self) -> impl Future<Output = Box<dyn LedgerReader>>;
    /// Loses all that is in it while it is open for writing, as where somebody moves its file away.
    fn lose(&self);
}

/// One `#[tokio::test]` for each test of the contract, against the [`Engine`] that the expression makes anew for each.
#[macro_export]
macro_rules! contract {
    ($engine:expr) => {
        $crate::contract!(@ $engine;
            appending::events_are_read_as_they_were_written_in_the_order_of_their_group,
            appending::groups_of_any_size_are_added_whole,
            appending::numbers_rise_and_are_never_used_twice,
            appending::a_reader_sees_what_is_added_after_it_was_opened,
            appending::an_empty_group_changes_nothing,
            appending::a_zero_byte_in_a_text_costs_no_event,
            filtering::conditions_compare_any_field_whatever_its_type,
            filtering::patterns_mean_what_the_model_says,
            filtering::a_rule_is_found_by_id_by_title_and_among_those_that_matched,
            filtering::all_that_a_filter_names_must_hold,
            filtering::pages_follow_each_other_in_both_directions_up_to_a_number,
            filtering::spans_of_time_are_found_where_the_clock_was_set_back_a_little,
            finding::an_id_or_the_start_of_one_leads_to_its_event,
            finding::incidents_are_summed_up_over_groups_the_newest_first,
            finding::the_nearest_events_of_a_name_are_near,
            finding::an_outcome_is_found_after_its_call_only,
            finding::a_story_and_the_sums_over_events_are_made_of_what_is_found,
            inventory::what_events_say_of_a_server_is_summed_up_over_groups,
            inventory::a_call_that_is_several_events_is_one_call_and_what_could_not_be_read_makes_no_server,
            inventory::a_server_that_is_started_here_is_an_entry_with_who_has_it,
            inventory::a_server_that_nobody_reached_is_told_from_those_in_use_and_from_those_that_are_listed,
            inventory::paths_and_names_of_a_server_are_bounded,
            inventory::a_full_inventory_makes_room_for_who_is_seen_now,
            inventory::new_tools_are_those_first_seen_in_a_span,
            trimming::events_are_forgotten_when_their_time_is_over_and_incidents_with_them,
            trimming::a_clock_that_was_ahead_keeps_no_other_event_from_being_forgotten,
            trimming::a_clock_that_was_behind_takes_no_event_away_before_those_that_came_earlier,
            trimming::the_oldest_events_make_room_within_the_size_bound,
            trimming::events_that_were_forgotten_are_counted_since_the_ledger_was_opened,
            trimming::the_newest_moment_is_the_latest_one_and_not_that_of_the_last_row,
            trimming::a_ledger_that_was_lost_begins_anew_where_it_was,
            trimming::a_ledger_that_is_in_its_place_and_whole_loses_nothing_by_beginning_anew,
            volume::sums_are_added_up_by_pair_and_hour,
            volume::pairs_beyond_the_bound_are_summed_up_as_others,
            volume::the_busiest_are_those_that_were_not_told_of_lately,
        );
    };
    (@ $engine:expr; $($subject:ident :: $name:ident,)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::$subject::$name(&$engine).await;
            }
        )*
    };
}

/// The same for a journal of decisions: the expression makes a [`decisions::Journal`].
#[macro_export]
macro_rules! contract_of_decisions {
    ($journal:expr) => {
        $crate::contract!(@ $journal;
            decisions::entries_are_kept_as_they_were_put,
            decisions::the_newest_entry_of_a_subject_stands_until_it_is_withdrawn,
            decisions::whoever_follows_misses_nothing_of_many_writers,
            decisions::a_file_is_imported_once_and_again_where_it_changed,
            decisions::what_was_decided_before_a_line_came_stands_again_when_it_is_gone,
            decisions::a_snippet_and_the_decision_about_it_stand_under_its_digest,
        );
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_contract_names_each_of_its_tests() {
        let all = include_str!("lib.rs");
        for (subject, source) in [
            ("appending", include_str!("appending.rs")),
            ("decisions", include_str!("decisions.rs")),
            ("filtering", include_str!("filtering.rs")),
            ("finding", include_str!("finding.rs")),
            ("inventory", include_str!("inventory.rs")),
            ("trimming", include_str!("trimming.rs")),
            ("volume", include_str!("volume.rs")),
        ] {
            let names: Vec<_> = source.lines().filter_map(|line| line.strip_prefix("pub async fn ")?.split('(').next()).collect();
            assert!(!names.is_empty(), "{subject}");
            for name in names {
                assert!(all.contains(&format!("{subject}::{name},")), "{subject}::{name} is run by nobody");
            }
        }
    }
}
