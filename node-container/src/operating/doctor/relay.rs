//! The way to the relay: network, clock, key.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::Finding;
use crate::config::{NodeKey, RelayUrl};
use crate::shell::socket::{self, Socket};

/// As long as anybody waits for a page.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// From here on, certificates and tickets may be taken for expired.
const CLOCK_SECONDS_MAX: i64 = 60;

/// Looks at all of it.
pub(super) fn look(relay: &RelayUrl, key: Option<&NodeKey>) -> Vec<Finding> {
    // A failure means that a provider is installed already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return vec![Finding::bad(
                "relay",
                error.to_string(),
                "end other programs",
            )];
        }
    };
    runtime.block_on(async {
        let mut findings = health(relay).await;
        if findings
            .iter()
            .all(|finding| finding.grade != super::Grade::Bad)
        {
            findings.push(admission(relay, key).await);
        }
        findings
    })
}

async fn health(relay: &RelayUrl) -> Vec<Finding> {
    let url = relay.http("/health");
    let client = reqwest::Client::builder().timeout(ANSWER_TIME_MAX).build();
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            return vec![Finding::bad(
                "relay",
                error.to_string(),
                "look at the proxy's settings",
            )];
        }
    };
    let asked = Instant::now();
    let response = match client.get(&url).send().await {
        Ok(response) => response,
        Err(error) => {
            // The innermost cause says most: refused, no such name, a certificate.
            let mut cause: &dyn std::error::Error = &error;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            return vec![Finding::bad(
                "relay",
                format!("{url} does not answer: {cause}"),
                "look at the address, at this machine's DNS and firewall, and whether the relay runs",
            )];
        }
    };
    let took = asked.elapsed().as_millis();
    let status = response.status();
    if !status.is_success() {
        let mend = "the address leads to something else, or the relay is set up wrongly: look into its log";
        return vec![Finding::bad(
            "relay",
            format!("{url} answers {status}"),
            mend,
        )];
    }
    let mut findings = vec![Finding::ok("relay", format!("{url} answered in {took} ms"))];
    if !relay.is_private() {
        findings.push(Finding::warning(
            "network",
            "the connection is not encrypted",
            "use wss:// unless this network is trusted: the key and all chats can be read on the way",
        ));
    }
    let date = response
        .headers()
        .get("date")
        .and_then(|date| date.to_str().ok());
    findings.push(clock(date, Utc::now()));
    findings
}

/// This machine's clock beside the relay's.
fn clock(date: Option<&str>, now: DateTime<Utc>) -> Finding {
    let theirs = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
    let Some(theirs) = theirs else {
        return Finding::ok("clock", "the relay tells no time to compare with");
    };
    let seconds = (now - theirs.with_timezone(&Utc)).num_seconds();
    if seconds.abs() > CLOCK_SECONDS_MAX {
        Finding::bad(
            "clock",
            format!("it is {seconds} s ahead of the relay's"),
            "set it: install chrony or systemd-timesyncd on the host",
        )
    } else {
        Finding::ok(
            "clock",
            format!("within {} s of the relay's", seconds.abs().max(1)),
        )
    }
}

/// Whether the relay takes the key. It says so before a node says anything, so that nothing is registered.
async fn admission(relay: &RelayUrl, key: Option<&NodeKey>) -> Finding {
    if let Some(Err(fault)) = key.map(NodeKey::check) {
        return Finding::bad(
            "key",
            fault,
            "ask whoever runs the relay for a node key (docs/deploying.md says how keys are made)",
        );
    }
    match socket::dial(relay.clone(), key.cloned()).await {
        Ok(socket) => {
            Socket::close(socket, protocol::CloseCode::GoingAway.number()).await;
            match key {
                Some(_) => Finding::ok("key", "the relay takes it"),
                None => Finding::warning(
                    "key",
                    "none was given",
                    "give it in HELIOGRAPH_KEY: a relay takes no node without one",
                ),
            }
        }
        Err(error) => Finding::bad(
            "key",
            format!("the relay refuses this node: {}", error.why),
            "look whether the key was copied whole, and whether it was revoked",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    #[test]
    fn a_wrong_clock_is_told_and_a_right_one_is_not() {
        let now = DateTime::parse_from_rfc2822("Sun, 22 Nov 2026 09:00:00 GMT")
            .unwrap()
            .to_utc();
        let grade = |date: &str| clock(Some(date), now).grade;
        assert_eq!(grade("Sun, 22 Nov 2026 09:00:20 GMT"), Grade::Ok);
        assert_eq!(grade("Sun, 22 Nov 2026 08:50:00 GMT"), Grade::Bad);
        assert_eq!(grade("yesterday"), Grade::Ok);
        assert_eq!(clock(None, now).grade, Grade::Ok);
    }

    #[test]
    fn a_relay_that_is_not_there_is_bad_and_says_where() {
        // Port 9 (discard) has no server on any machine that builds this.
        let relay = RelayUrl::parse("ws://127.0.0.1:9").unwrap();
        let findings = look(&relay, None);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].grade, Grade::Bad);
        assert!(findings[0].found.contains("127.0.0.1:9"));
    }
}
