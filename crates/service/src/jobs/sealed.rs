//! A passphrase among the parameters of a job: sealed for this job alone, and erased when the job ends.

use catalog::{Tx, jobs};
use keys::Secret;
use model::JobId;
use model::jobs::Job;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::service::Service;

/// The name of the sealed passphrase, in hexadecimal, beside the parameters of the job's kind.
const NAME: &str = "sealed_passphrase";
/// Bytes of a passphrase; more are a file that was given by mistake.
const LENGTH_MAX: usize = 64 << 10;

/// Refuses what cannot be a passphrase.
pub(crate) fn check(passphrase: Option<&Secret>) -> Result<()> {
    match passphrase.map(|passphrase| passphrase.expose().len()) {
        Some(0) => Err(Error::invalid("the passphrase is empty")),
        Some(length) if length > LENGTH_MAX => {
            Err(Error::invalid(format!("the passphrase has {length} bytes; the limit is {LENGTH_MAX}")))
        }
        _ => Ok(()),
    }
}

/// Puts a passphrase among the parameters of a new job.
pub(crate) async fn put(service: &Service, job: &mut Job, passphrase: Option<&Secret>) -> Result<()> {
    let Some(passphrase) = passphrase else { return Ok(()) };
    let sealed = service.parts.kms.wrap(&context(job.id), passphrase.expose()).await?;
    let mut params = params(job)?;
    params.insert(NAME.into(), hex::encode(sealed).into());
    job.params = Value::Object(params).to_string();
    Ok(())
}

/// Returns the passphrase among the parameters of a job.
pub(crate) async fn get(service: &Service, job: &Job) -> Result<Option<Secret>> {
    let params = params(job)?;
    let Some(sealed) = params.get(NAME).and_then(Value::as_str) else { return Ok(None) };
    let sealed = hex::decode(sealed).map_err(|bad| Error::internal("the passphrase of a job is damaged", bad))?;
    Ok(Some(service.parts.kms.unwrap(&context(job.id), &sealed).await?))
}

/// Erases the passphrase of a job in the transaction that ends it.
pub(crate) async fn erase(tx: &mut Tx, job: &Job) -> Result<()> {
    // Damaged parameters must not keep the job from its end.
    let mut params = params(job).unwrap_or_default();
    if params.remove(NAME).is_some() {
        jobs::set_params(tx, job.id, &Value::Object(params).to_string()).await?;
    }
    Ok(())
}

fn params(job: &Job) -> Result<Map<String, Value>> {
    match serde_json::from_str(&job.params) {
        Ok(Value::Object(params)) => Ok(params),
        // Some kinds have none.
        Ok(_) => Ok(Map::new()),
        Err(bad) => Err(Error::internal("cannot read a job's parameters", bad)),
    }
}

/// What the seal binds: in another job it opens nothing.
fn context(job: JobId) -> Vec<u8> {
    format!("job passphrase:{job}").into_bytes()
}
