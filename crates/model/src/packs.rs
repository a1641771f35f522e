//! Packs: the states in which a collection of garbage moves them, as one table that code and model checker share.
//!
//! ```text
//!   (object without a row) --recorded--> Sealed <--used, or found referenced-- Condemned --two marks--> Deleting --> gone
//!                                           |                                      ^
//!                                           +-----------a mark found nothing-------+
//! ```
//! A *session* is the writing of one content; sessions have rising numbers. A *mark* is a walk over everything that is
//! kept, from a moment at which it read all of it at once. What makes the table safe:
//!
//! - Whoever condemns a pack notes the last session number that was given out (the watermark), and no number is given
//!   out meanwhile. So a session above the watermark sees the pack condemned, and uses it only by reviving it.
//! - A mark counts only if every session up to the watermark had ended when it began: what those sessions keep, it sees.
//! - Two such marks without a reference lie between condemned and deleting; each use in between begins anew.
//!
//! No clock takes part. Not here: who marks (`chunks`), how moves are recorded (`catalog`).

use crate::formats::names;

/// Marks without a reference between condemned and deleting. One would do; the second is for what nobody thought of.
pub const MARKS_NEEDED: u32 = 2;

names! {
    /// Where a pack is in its life. One whose object is gone has no state.
    PackState {
        /// Durable and recorded; its chunks answer for equal bytes of later writers.
        Sealed = "sealed",
        /// Nothing referred to it when a mark ended. Still whole: who needs it revives it.
        Condemned = "condemned",
        /// Its chunks are forgotten and its object is being removed. Nothing brings it back.
        Deleting = "deleting",
    }
}

/// Where a pack is, and what led there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Standing {
    /// The state.
    pub state: PackState,
    /// Marks that counted since it was condemned; 0 while it is sealed.
    pub marks: u32,
    /// The last session that had begun when it was condemned; 0 while it is sealed.
    pub watermark: u64,
}

/// What happens to a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PackEvent {
    /// A writer, or a reader of something that is kept, needs one of its chunks.
    Used,
    /// A mark ended that found a reference to it.
    Referenced,
    /// A mark ended that found no reference to it.
    Unreferenced {
        /// The oldest session that was open when the mark began, or the next one to be; those before it had ended.
        oldest_session: u64,
        /// The session that wrote the pack.
        writer: u64,
        /// The last session that was given out until now; no other may be while the move is recorded.
        last_session: u64,
    },
}

impl Standing {
    /// The standing of a new pack.
    pub const SEALED: Self = Self { state: PackState::Sealed, marks: 0, watermark: 0 };

    /// Returns where `event` leads; nothing where it is refused.
    #[must_use]
    pub fn after(self, event: PackEvent) -> Option<Self> {
        match (self.state, event) {
            (PackState::Deleting, PackEvent::Used) => None,
            // Marked from what was kept while its chunks were still known, which the marks before rule out.
            (PackState::Deleting, _) => Some(self),
            (_, PackEvent::Used | PackEvent::Referenced) => Some(Self::SEALED),
            (PackState::Sealed, PackEvent::Unreferenced { oldest_session, writer, last_session }) => {
                // What an open session has written is referred to by nothing yet.
                if writer >= oldest_session {
                    return Some(self);
                }
                Some(Self { state: PackState::Condemned, marks: 0, watermark: last_session })
            }
            (PackState::Condemned, PackEvent::Unreferenced { oldest_session, .. }) => {
                if self.watermark >= oldest_session {
                    return Some(self);
                }
                let marks = self.marks + 1;
                let state = if marks >= MARKS_NEEDED { PackState::Deleting } else { PackState::Condemned };
                Some(Self { state, marks, ..self })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreferenced(oldest_session: u64, writer: u64, last_session: u64) -> PackEvent {
        PackEvent::Unreferenced { oldest_session, writer, last_session }
    }

    #[test]
    fn garbage_goes_after_two_marks_that_count() {
        let condemned = Standing::SEALED.after(unreferenced(8, 3, 9)).unwrap();
        assert_eq!(condemned, Standing { state: PackState::Condemned, marks: 0, watermark: 9 });
        // Session 9 is still open.
        assert_eq!(condemned.after(unreferenced(9, 3, 12)), Some(condemned));
        let once = condemned.after(unreferenced(10, 3, 12)).unwrap();
        assert_eq!((once.state, once.marks), (PackState::Condemned, 1));
        let twice = once.after(unreferenced(13, 3, 13)).unwrap();
        assert_eq!(twice.state, PackState::Deleting);
        assert_eq!(twice.after(PackEvent::Used), None);
        assert_eq!(twice.after(PackEvent::Referenced), Some(twice));
    }

    #[test]
    fn a_use_begins_anew() {
        let condemned = Standing { state: PackState::Condemned, marks: 1, watermark: 9 };
        for event in [PackEvent::Used, PackEvent::Referenced] {
            assert_eq!(condemned.after(event), Some(Standing::SEALED));
            assert_eq!(Standing::SEALED.after(event), Some(Standing::SEALED));
        }
    }

    #[test]
    fn what_an_open_session_writes_is_left_alone() {
        assert_eq!(Standing::SEALED.after(unreferenced(5, 5, 9)), Some(Standing::SEALED));
        assert_eq!(Standing::SEALED.after(unreferenced(5, 7, 9)), Some(Standing::SEALED));
        assert_ne!(Standing::SEALED.after(unreferenced(5, 4, 9)), Some(Standing::SEALED));
    }
}
