//! A driver without processes: it remembers what it was told, and runs no guest.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use compute::{Driver, Error, ErrorKind, Power, Result, ServerSpec, Stop};
use model::ServerId;

use crate::gate::Door;

/// The driver; its calls are kept as words.
#[derive(Default)]
pub(crate) struct FakeDriver {
    servers: Mutex<BTreeMap<ServerId, Power>>,
    specs: Mutex<BTreeMap<ServerId, ServerSpec>>,
    calls: Mutex<Vec<String>>,
    refusal: Mutex<Option<Error>>,
    /// Passed after a server was started and before the caller hears of it.
    pub(crate) started: Door,
    /// Passed after a server was looked at and before the caller hears of it.
    pub(crate) looked: Door,
}

impl FakeDriver {
    /// Returns the calls about a server so far, and forgets all.
    pub(crate) fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    /// Returns what a server was last started with.
    pub(crate) fn spec(&self, id: ServerId) -> ServerSpec {
        self.specs.lock().unwrap()[&id].clone()
    }

    /// Makes a server be in this state, as if its guest had brought it about.
    pub(crate) fn set(&self, id: ServerId, power: Power) {
        self.servers.lock().unwrap().insert(id, power);
    }

    /// Returns the state of a server without counting it as a call.
    pub(crate) fn peek(&self, id: ServerId) -> Power {
        self.servers.lock().unwrap().get(&id).cloned().unwrap_or(Power::Absent)
    }

    /// Makes the next start fail as one that may go well later.
    pub(crate) fn refuse_next(&self, why: &str) {
        *self.refusal.lock().unwrap() = Some(Error::new(ErrorKind::Unresponsive, why));
    }

    /// Makes the next start panic.
    pub(crate) fn panic_next(&self) {
        *self.refusal.lock().unwrap() = Some(Error::new(ErrorKind::Failed, "a fault of the driver"));
    }

    fn called(&self, call: impl Into<String>) {
        self.calls.lock().unwrap().push(call.into());
    }
}

#[async_trait]
impl Driver for FakeDriver {
    async fn start(&self, spec: &ServerSpec) -> Result<()> {
        spec.check()?;
        let refusal = self.refusal.lock().unwrap().take();
        if let Some(refusal) = refusal {
            assert_ne!(refusal.kind(), ErrorKind::Failed, "{refusal}");
            return Err(refusal);
        }
        self.called("start");
        self.specs.lock().unwrap().insert(spec.id, spec.clone());
        self.set(spec.id, Power::Running);
        self.started.pass("").await;
        Ok(())
    }

    async fn stop(&self, id: ServerId, how: Stop) -> Result<()> {
        self.called(format!("stop {how:?}"));
        if self.peek(id) != Power::Absent {
            self.set(id, Power::Off);
        }
        Ok(())
    }

    async fn delete(&self, id: ServerId) -> Result<()> {
        self.called("delete");
        self.servers.lock().unwrap().remove(&id);
        Ok(())
    }

    async fn power(&self, id: ServerId) -> Result<Power> {
        let power = self.peek(id);
        self.looked.pass("").await;
        Ok(power)
    }

    async fn console(&self, id: ServerId, last_bytes: usize) -> Result<Vec<u8>> {
        if self.peek(id) == Power::Absent {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no server {id}")));
        }
        let text = b"login: ";
        Ok(text[text.len().saturating_sub(last_bytes)..].to_vec())
    }

    async fn adopt(&self) -> Result<Vec<(ServerId, Power)>> {
        Ok(self.servers.lock().unwrap().iter().map(|(id, power)| (*id, power.clone())).collect())
    }
}
