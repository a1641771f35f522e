//! How many images the project may have, and has.

use axum::Json;
use axum::extract::State;
use model::quotas::{Quota, Resource};
use serde_json::{Value, json};

use super::error::{Asked, Failure};
use crate::ApiState;
use crate::auth::Caller;

pub(super) async fn show(State(state): State<ApiState>, Caller(who): Caller) -> Result<Json<Value>, Failure> {
    let quotas = state.service.quotas().get(&who, who.project.id).await;
    Ok(Json(told(&quotas.map_err(|error| Failure::of(&error, Asked::Other))?)))
}

fn told(quotas: &[Quota]) -> Value {
    let resources = quotas.iter().filter(|quota| quota.resource == Resource::Images).map(|quota| {
        // -1 is the word of this dialect for no limit.
        let limit = quota.limit.map_or(json!(-1), |limit| json!(limit));
        json!({"type": "image", "used": quota.used, "quota": limit, "min": 0, "max": limit})
    });
    json!({"quotas": {"resources": resources.collect::<Vec<_>>()}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_told_alone() {
        let quota = |resource, limit| Quota { resource, limit, used: 4 };
        let told = |limit| told(&[quota(Resource::StoredBytes, Some(9)), quota(Resource::Images, limit)]);
        let expect = |limit: i64| json!({"quotas": {"resources": [{"type": "image", "used": 4, "quota": limit, "min": 0, "max": limit}]}});
        assert_eq!((told(Some(50)), told(None)), (expect(50), expect(-1)));
    }
}
