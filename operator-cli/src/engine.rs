//! The way to Docker, and what its refusals mean for the person who reads them.

use std::error::Error as _;
use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

use anyhow::Result;
use bollard::Docker;
use bollard::errors::Error;

/// Stopping a rig is one request that lasts as long as its drain, at most an hour.
const REQUEST_MAX: Duration = Duration::from_mins(65);

/// Connects to the engine that `DOCKER_HOST` names, or to this machine's, and settles on a version that both speak.
pub(crate) async fn connect() -> Result<Docker> {
    let docker = Docker::connect_with_defaults()
        .map_err(explain)?
        .with_timeout(REQUEST_MAX);
    docker.negotiate_version().await.map_err(explain)
}

/// Whether the engine says that there is no such thing.
pub(crate) fn is_missing(error: &Error) -> bool {
    matches!(
        error,
        Error::DockerResponseServerError {
            status_code: 404,
            ..
        }
    )
}

/// Whether the engine says that it is so already, or that something else is in the way.
pub(crate) fn is_conflict(error: &Error) -> bool {
    matches!(
        error,
        Error::DockerResponseServerError {
            status_code: 409,
            ..
        }
    )
}

/// Why the engine does not do it.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// In its own words.
    pub(crate) says: String,
    /// What to do about it, where we know.
    pub(crate) hint: Option<&'static str>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hint {
            Some(hint) => write!(f, "{hint} ({})", self.says),
            None => write!(f, "Docker: {}", self.says),
        }
    }
}

impl std::error::Error for Refusal {}

/// The engine's error with what to do about it: always a [`Refusal`].
#[expect(clippy::needless_pass_by_value, reason = "the shape of `map_err`")]
pub(crate) fn explain(error: Error) -> anyhow::Error {
    let says = whole(&error);
    let hint = hint(&error, &says);
    Refusal { says, hint }.into()
}

fn hint(error: &Error, text: &str) -> Option<&'static str> {
    const NOT_RUNNING: &str = "Docker is not running, not installed, or not where DOCKER_HOST says: start it (`sudo systemctl \
                               start docker`, or Docker Desktop), or install it (https://docs.docker.com/engine/install)";
    const NOT_ALLOWED: &str = "you may not use Docker: `sudo usermod -aG docker $USER` and log in again, or run this with sudo";
    match io_kind(error) {
        Some(ErrorKind::PermissionDenied) => return Some(NOT_ALLOWED),
        Some(ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Some(NOT_RUNNING),
        Some(_) | None => {}
    }
    if let Error::SocketNotFoundError(_) = error {
        return Some(NOT_RUNNING);
    }
    let known = [
        ("permission denied", NOT_ALLOWED),
        (
            "could not select device driver",
            "Docker cannot hand out the NVIDIA card: install nvidia-container-toolkit, then `sudo nvidia-ctk runtime \
             configure --runtime=docker` and restart Docker",
        ),
        (
            "error gathering device information",
            "a device of the graphics card is not there: `--gpu cpu` runs without it",
        ),
        (
            "port is already allocated",
            "something else has that port on this machine; stop it, or choose another",
        ),
        (
            "address already in use",
            "something else has that port on this machine; stop it, or choose another",
        ),
        (
            "no space left on device",
            "the disk is full: `docker system df` shows what Docker keeps, `docker image prune` lets go of old images",
        ),
        (
            "manifest unknown",
            "the registry has no such image; check the name and the tag",
        ),
        (
            "manifest for",
            "the registry has no such image; check the name and the tag",
        ),
        (
            "unauthorized",
            "the registry wants a login: `docker login REGISTRY` as whoever runs this; if that does not do, `docker pull` the \
             image, then try again",
        ),
        (
            "uri scheme is not supported",
            "heliograph reaches Docker at unix:// and tcp:// addresses: set DOCKER_HOST to one, or leave it unset",
        ),
        (
            "server gave http response to https client",
            "the registry speaks no TLS; give it a certificate, or list it as insecure in Docker's settings",
        ),
    ];
    let text = text.to_lowercase();
    known
        .into_iter()
        .find(|(part, _)| text.contains(part))
        .map(|(_, hint)| hint)
}

/// What the system said, at the bottom of the error.
fn io_kind(error: &Error) -> Option<ErrorKind> {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}

/// An error with its causes; those that say nothing new are left out.
fn whole(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str) -> String {
        explain(Error::DockerResponseServerError {
            status_code: 500,
            message: message.to_owned(),
        })
        .to_string()
    }

    #[test]
    fn what_the_engine_says_comes_with_what_to_do() {
        for (message, help) in [
            (
                "could not select device driver \"\" with capabilities: [[gpu]]",
                "nvidia-container-toolkit",
            ),
            (
                "driver failed: Bind for 0.0.0.0:80 failed: port is already allocated",
                "that port",
            ),
            (
                "manifest for x:1 not found: manifest unknown",
                "no such image",
            ),
            ("write /x: no space left on device", "disk is full"),
        ] {
            let text = said(message);
            assert!(text.contains(help) && text.contains(message), "{text}");
        }
        assert_eq!(
            said("odd"),
            "Docker: Docker responded with status code 500: odd"
        );
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_said_so() {
        let docker =
            Docker::connect_with_http("http://127.0.0.1:1", 5, bollard::API_DEFAULT_VERSION)
                .unwrap();
        let error = explain(docker.ping().await.unwrap_err()).to_string();
        assert!(error.contains("Docker is not running"), "{error}");
    }
}
