//! What HTTP says, in our words: one client, bounded redirects, and what an answer to a range request means.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, LAST_MODIFIED, RANGE, RETRY_AFTER,
};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use rustls::{ClientConfig, RootCertStore};

use crate::FetchError;
use crate::named::{is_trusted, may_lead};

/// Hosts of model files redirect once or twice.
const REDIRECTS_MAX: usize = 5;

/// No host needs longer to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(20);

/// A connection that brings nothing for so long is dead.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A host that wants a longer pause is asked again after this one.
const RETRY_AFTER_SECONDS_MAX: u64 = 120;

/// Validators are compared and written down; longer ones than this are left out.
const VALIDATOR_BYTES_MAX: usize = 256;

/// Why one request failed, and what that means for the fetch.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Worth another try, after a pause if the host wants one.
    Passing {
        why: String,
        pause: Option<Duration>,
    },
    /// It will not be given.
    Refused(u16),
    /// The remote file is another one than before.
    Changed,
}

/// A client that trusts the system's certificates and Mozilla's list: an image may have no certificates of its own, a
/// company's network may have some more.
pub(crate) fn client() -> Result<Client, FetchError> {
    let failed = |error: String| FetchError::Client(error);
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    // What cannot be read there is not trusted, which shows when it is needed.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("heliograph/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::custom(|attempt| {
            match redirected(attempt.previous(), attempt.url()) {
                Ok(()) => attempt.follow(),
                Err(why) => attempt.error(why),
            }
        }))
        // Signed addresses are nobody's business but their host's.
        .referer(false)
        .connect_timeout(CONNECT_MAX)
        .read_timeout(SILENCE_MAX)
        .build()
        .map_err(|error| failed(in_words(&error)))
}

/// Whether a redirect is followed, after these addresses.
fn redirected(previous: &[Url], to: &Url) -> Result<(), &'static str> {
    if previous.len() > REDIRECTS_MAX {
        return Err("too many redirects");
    }
    if !is_trusted(to) {
        return Err("a redirect to an address without TLS");
    }
    if previous.iter().all(|from| may_lead(from, to)) {
        Ok(())
    } else {
        Err("a redirect from another host into this machine")
    }
}

/// Reads an address that a file or a list is to be fetched from, and refuses one that others could change it at.
pub(crate) fn trusted(url: &str) -> Result<Url, FetchError> {
    Url::parse(url)
        .ok()
        .filter(is_trusted)
        .ok_or_else(|| FetchError::NotTrusted { host: host(url) })
}

/// Asks for bytes `from` to `to` (which is not one of them). An answer that is no success is a fault.
pub(crate) async fn ask(client: &Client, url: &str, from: u64, to: u64) -> Result<Response, Fault> {
    let request = client
        .get(url)
        // A compressed body has other offsets.
        .header(ACCEPT_ENCODING, "identity")
        .header(RANGE, format!("bytes={from}-{}", to.saturating_sub(1)));
    checked(request.send().await)
}

/// Asks for the whole.
pub(crate) async fn ask_whole(client: &Client, url: &str) -> Result<Response, Fault> {
    let request = client.get(url).header(ACCEPT_ENCODING, "identity");
    checked(request.send().await)
}

pub(crate) fn checked(answer: Result<Response, reqwest::Error>) -> Result<Response, Fault> {
    let response = answer.map_err(|error| passing(&error))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let is_passing = status.is_server_error()
        || [
            StatusCode::REQUEST_TIMEOUT,
            StatusCode::TOO_EARLY,
            StatusCode::TOO_MANY_REQUESTS,
        ]
        .contains(&status);
    if status == StatusCode::RANGE_NOT_SATISFIABLE {
        return Err(Fault::Changed);
    }
    if !is_passing {
        return Err(Fault::Refused(status.as_u16()));
    }
    let seconds = text(response.headers(), &RETRY_AFTER).and_then(|text| text.parse::<u64>().ok());
    Err(Fault::Passing {
        why: format!("the host answers HTTP {}", status.as_u16()),
        pause: seconds.map(|seconds| Duration::from_secs(seconds.min(RETRY_AFTER_SECONDS_MAX))),
    })
}

pub(crate) fn passing(error: &reqwest::Error) -> Fault {
    Fault::Passing {
        why: in_words(error),
        pause: None,
    }
}

/// The error with its causes, without the address: a signed one opens the file to whoever reads the log.
fn in_words(error: &reqwest::Error) -> String {
    use std::error::Error as _;
    let mut words = if error.is_timeout() {
        "the host is silent".to_owned()
    } else if error.is_redirect() {
        "the redirect is not followed".to_owned()
    } else if error.is_connect() {
        "no connection".to_owned()
    } else {
        "the connection broke".to_owned()
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.source().is_none() {
            words.push_str(": ");
            words.push_str(&error.to_string());
        }
        cause = error.source();
    }
    words
}

/// `bytes 0-99/1234` as (0, 100, 1234).
pub(crate) fn content_range(headers: &HeaderMap) -> Option<(u64, u64, u64)> {
    let (span, total) = text(headers, &CONTENT_RANGE)?
        .strip_prefix("bytes ")?
        .split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let to = last.parse::<u64>().ok()?.checked_add(1)?;
    Some((first.parse().ok()?, to, total.parse().ok()?))
}

/// What tells one version of the remote file from another.
pub(crate) fn validator(headers: &HeaderMap) -> Option<String> {
    text(headers, &ETAG)
        .or_else(|| text(headers, &LAST_MODIFIED))
        .filter(|text| text.len() <= VALIDATOR_BYTES_MAX)
        .map(str::to_owned)
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// The host of an address, for people.
pub(crate) fn host(url: &str) -> String {
    Url::parse(url)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_else(|| "the host".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_from_another_host_does_not_lead_into_this_machine() {
        let url = |text: &str| Url::parse(text).expect("an address");
        let here = url("http://127.0.0.1:8000/model.gguf");
        let there = url("https://a.example/model.gguf");
        let further = url("http://localhost:9000/model.gguf");
        assert_eq!(redirected(std::slice::from_ref(&here), &further), Ok(()));
        assert_eq!(redirected(std::slice::from_ref(&here), &there), Ok(()));
        assert!(redirected(std::slice::from_ref(&there), &further).is_err());
        assert!(redirected(&[here, there], &further).is_err());
    }

    #[test]
    fn a_content_range_is_read_or_refused() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, text.parse().expect("a header"));
            content_range(&headers)
        };
        assert_eq!(read("bytes 0-99/1234"), Some((0, 100, 1234)));
        for bad in [
            "bytes 0-99/*",
            "bytes */1234",
            "0-99/1234",
            "bytes 0-18446744073709551615/1",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
