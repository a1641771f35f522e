//! The HTTP client: a token got once, requests with it, answers or sentences.

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::credentials::Credentials;
use crate::error::{Failure, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence of a server in the middle of an answer. Ends of uploads take long: all bytes are made durable.
const READ_TIMEOUT: Duration = Duration::from_secs(600);

/// A server and who asks it.
pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) credentials: Credentials,
    /// The project to act in, where it is not that of the credentials.
    pub(crate) project: Option<String>,
    token: OnceCell<String>,
}

impl Client {
    pub(crate) fn new(credentials: Credentials, project: Option<String>) -> Result<Self> {
        let builder = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT);
        let http = builder.build().map_err(|error| Failure::new("cannot make an HTTP client").caused_by(&error))?;
        Ok(Self { http, credentials, project, token: OnceCell::new() })
    }

    /// Begins a request of the API with a token.
    pub(crate) async fn request(&self, method: Method, path: &str) -> Result<RequestBuilder> {
        let token = self.token.get_or_try_init(|| self.sign_in()).await?;
        let url = format!("{}{path}", self.credentials.endpoint);
        Ok(self.http.request(method, url).header("X-Auth-Token", token))
    }

    /// Gets JSON.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        read_json(send(self.request(Method::GET, path).await?).await?).await
    }

    /// Sends JSON and gets JSON; `Null` where the answer has no body.
    pub(crate) async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        read_json(send(self.request(method, path).await?.json(body)).await?).await
    }

    /// Sends JSON as another media type.
    pub(crate) async fn send_as(&self, method: Method, path: &str, media_type: &str, body: &Value) -> Result<Value> {
        let request = self.request(method, path).await?.header(CONTENT_TYPE, media_type).body(body.to_string());
        read_json(send(request).await?).await
    }

    /// Removes something.
    pub(crate) async fn delete(&self, path: &str) -> Result<()> {
        send(self.request(Method::DELETE, path).await?).await.map(drop)
    }

    async fn sign_in(&self) -> Result<String> {
        let Credentials { endpoint, domain, username, password, project_id, .. } = &self.credentials;
        let user = json!({"name": username, "password": password, "domain": {"name": domain}});
        let project = match &self.project {
            Some(name) => json!({"name": name, "domain": {"name": domain}}),
            None => json!({"id": project_id}),
        };
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": project},
        }});
        let answer = send(self.http.post(format!("{endpoint}/v3/auth/tokens")).json(&body)).await?;
        let token = answer.headers().get("X-Subject-Token").and_then(|token| token.to_str().ok());
        token
            .map(str::to_owned)
            .ok_or_else(|| Failure::new(format!("`{endpoint}` gave no token; is it a Molde server?")))
    }
}

/// Sends a request; an answer that is no success becomes the sentence in it.
pub(crate) async fn send(request: RequestBuilder) -> Result<Response> {
    accept(request.send().await.map_err(|error| unreachable(&error))?).await
}

/// Passes an answer on that is a success; another becomes the sentence in it.
pub(crate) async fn accept(answer: Response) -> Result<Response> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    let (status, url) = (answer.status(), answer.url().path().to_owned());
    let text = answer.text().await.unwrap_or_default();
    Err(refusal(&text).unwrap_or_else(|| Failure::new(format!("the server answered {status} to {url}"))))
}

pub(crate) fn unreachable(error: &reqwest::Error) -> Failure {
    let address = error.url().map(|url| url.origin().ascii_serialization()).unwrap_or_default();
    if error.is_connect() {
        return Failure::new(format!("cannot reach {address}"))
            .caused_by(error)
            .with_hint("is `molde serve` running, and are the credentials of this run?");
    }
    // The URL of a signed request carries its signature, so it is not repeated.
    Failure::new(format!("the request to {address} failed"))
        .caused_by(std::error::Error::source(error).unwrap_or(error))
}

pub(crate) async fn read_json(answer: Response) -> Result<Value> {
    let bytes = answer.bytes().await.map_err(|error| unreachable(&error))?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes).map_err(|error| Failure::new("the server's answer is no JSON").caused_by(&error))
}

/// Finds the sentence and the hint in an error body: Molde's own, Keystone's, Glance's or S3's.
fn refusal(text: &str) -> Option<Failure> {
    if let Ok(body) = serde_json::from_str::<Value>(text) {
        let error = body.get("error").unwrap_or(&body);
        let message = error.get("message")?.as_str()?;
        return Some(Failure::new(message).with_some_hint(error.get("hint").and_then(Value::as_str)));
    }
    let message = between(text, "<Message>", "</Message>")?;
    let plain = message
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&#39;", "'")
        .replace("&amp;", "&");
    Some(Failure::new(plain))
}

/// Returns what stands between the first `start` and the next `end`.
pub(crate) fn between<'t>(text: &'t str, start: &str, end: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(start)?;
    Some(rest.split_once(end)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_every_dialect() {
        let check = |body: &str, expect: Option<&str>| {
            assert_eq!(refusal(body).map(|failure| failure.to_string()).as_deref(), expect, "{body}");
        };
        check(r#"{"error":{"kind":"not_found","message":"no image 1","hint":"h"}}"#, Some("no image 1"));
        check(r#"{"error":{"code":401,"title":"Unauthorized","message":"wrong"}}"#, Some("wrong"));
        check(r#"{"code":404,"title":"Not Found","message":"no image"}"#, Some("no image"));
        check(
            "<?xml?><Error><Code>NoSuchBucket</Code><Message>no bucket &apos;x&apos;</Message></Error>",
            Some("no bucket 'x'"),
        );
        check("<html>", None);
        check("", None);
    }
}
