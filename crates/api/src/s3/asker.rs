//! Who asks, and what of: the value that every operation of a request is called on.

use model::identity::Principal;
use service::Service;

/// One request's view of the service: its verbs, and who asks.
pub(super) struct Gateway {
    pub(super) service: Service,
    pub(super) who: Principal,
}
