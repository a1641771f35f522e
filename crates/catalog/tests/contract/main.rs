//! One suite of promises, kept by SQLite and by PostgreSQL.
//!
//! Each promise is an async function that gets an empty catalog. On SQLite each is a test of its own;
//! on PostgreSQL all run in one test, each in its own database of one throw-away cluster.
#![expect(clippy::print_stderr, reason = "a failed promise is named where the test's output goes")]

mod buckets;
mod chunks;
mod collection;
mod contents;
mod exports;
mod fixture;
mod identity;
mod image_list;
mod images;
mod jobs;
mod opening;
mod postgres;
mod quotas;
mod records;
mod scrubs;
mod servers;
mod transactions;

macro_rules! promises {
    ($($noun:ident { $($name:ident),+ $(,)? })+) => {
        mod sqlite {
            $(mod $noun {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let (_folder, catalog) = crate::fixture::sqlite().await;
                    crate::$noun::$name(catalog).await;
                })+
            })+
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn on_postgres() {
            let cluster = tests::peers::Postgres::start();
            let mut run = crate::postgres::Run::new(&cluster);
            $($(run.add(concat!(stringify!($noun), "::", stringify!($name)), crate::$noun::$name);)+)+
            run.finish().await;
            crate::opening::on_postgres(&cluster).await;
        }
    };
}

promises! {
    transactions {
        a_dropped_transaction_leaves_nothing,
        a_read_sees_one_moment_and_cannot_write,
        a_failed_transaction_cannot_be_committed,
        writers_wait_for_their_turn,
    }
    identity {
        domains_and_projects,
        users_and_passwords,
        roles,
        tokens,
        access_keys,
        what_a_deleted_user_or_project_takes_along,
    }
    contents {
        come_back_whole,
        stay_while_referred_to,
        the_unreferenced_are_found_once_old,
    }
    chunks {
        are_found_in_the_order_asked,
        first_location_wins,
        many_writers_add_the_same_chunks,
    }
    collection {
        sessions_are_numbered_and_kept_until_they_are_committed,
        silent_sessions_are_given_up,
        packs_move_by_the_table_and_only_from_where_they_stood,
        chunks_move_and_are_forgotten,
        strays_are_named_when_nobody_can_come_for_them,
        sources_must_be_kept,
        one_of_many_nodes_collects,
    }
    scrubs {
        packs_take_turns,
        a_pack_is_claimed_by_one_of_many,
        damage_is_remembered_and_what_is_written_again_replaces_it,
        what_is_being_removed_is_left_alone,
    }
    images {
        come_back_whole,
        keep_a_report_as_long_as_they_live,
        change_only_from_the_given_state,
        one_of_many_updates_wins,
        refuse_what_does_not_fit,
    }
    image_list {
        every_image_is_visited_once_in_every_order,
        who_sees_what,
        filters,
        hostile_values_are_only_values,
        bounds,
    }
    buckets {
        belong_to_their_project,
        objects_replace_each_other,
        objects_are_listed_bytewise,
        prefixes_are_not_patterns,
        concurrent_puts_free_every_loser,
        uploads_and_parts,
    }
    jobs {
        come_back_whole,
        pages_go_from_newest_to_oldest,
        a_claim_takes_the_oldest_that_is_due,
        two_claimers_never_get_the_same_job,
        an_expired_lease_is_taken_over_and_fenced,
        a_renewed_lease_is_not_taken,
        steps_are_kept_in_order,
        params_are_replaced,
        requeue_waits,
        cancel,
        finish_ends_a_job,
        lines_are_numbered_without_gaps,
    }
    servers {
        come_back_whole,
        change_only_from_the_given_state,
    }
    exports {
        come_back_whole,
        have_names_of_their_own,
    }
    quotas {
        limits_are_set_one_by_one,
        objects_and_images_are_refused_at_the_limit,
        stored_bytes_are_what_the_chunks_take,
        many_writers_never_pass_the_limit,
        as_many_are_put_as_fit,
        counting_makes_nobody_wait_in_a_circle,
    }
}
