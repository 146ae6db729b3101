//! Whether the relay can be reached from here, and whether it takes this node's key.

use std::time::Duration;

use anyhow::Result;

use super::{Check, Verdict, check};
use crate::chat;
use crate::secret::Secret;

/// A relay that takes longer is of no use to anybody.
const RELAY_MAX: Duration = Duration::from_secs(10);

/// Whether the relay answers, and whether it takes the key.
pub(super) async fn look_at(relay: Option<&str>, key: Result<Option<Secret>>) -> Vec<Check> {
    let mut checks = Vec::new();
    let key = match key {
        Ok(Some(key)) => Some(key),
        Ok(None) => {
            let mend =
                "`--key-file PATH` or HELIOGRAPH_KEY; the relay's operator gives out node keys";
            checks.push(check(
                "key",
                Verdict::Warning,
                "no node key was given",
                Some(mend),
            ));
            None
        }
        Err(error) => {
            checks.push(check("key", Verdict::Wrong, format!("{error:#}"), None));
            None
        }
    };
    let Some(relay) = relay else {
        checks.push(check(
            "relay",
            Verdict::Skipped,
            "no relay was named",
            Some("`--relay wss://relay.example` looks at one, and whether it takes the key"),
        ));
        return checks;
    };
    match reach(relay).await {
        Ok(client) => {
            checks.push(check(
                "relay",
                Verdict::Fine,
                format!("{relay} answers"),
                None,
            ));
            if let Some(key) = key {
                checks.push(try_key(&client, relay, &key).await);
            }
        }
        Err(error) => checks.push(check(
            "relay",
            Verdict::Wrong,
            format!("{relay} does not answer: {error:#}"),
            Some("check the address, this machine's network and its proxy settings"),
        )),
    }
    checks
}

async fn reach(relay: &str) -> Result<reqwest::Client> {
    let client = chat::client()?;
    let url = format!("{}/health", chat::base(relay)?);
    let answer = client
        .get(url)
        .timeout(RELAY_MAX)
        .send()
        .await
        .map_err(chat::causes)?;
    answer.error_for_status().map_err(chat::causes)?;
    Ok(client)
}

/// Begins to connect as a node would. A wrong key is refused before the connection becomes a WebSocket.
async fn try_key(client: &reqwest::Client, relay: &str, key: &Secret) -> Check {
    let answer = match chat::base(relay) {
        Ok(base) => {
            let request = client
                .get(format!("{base}/node"))
                .bearer_auth(key.reveal())
                .header("Connection", "Upgrade")
                .header("Upgrade", "websocket")
                .header("Sec-WebSocket-Version", "13")
                // Any 16 bytes; nothing is said over the connection.
                .header("Sec-WebSocket-Key", "aGVsaW9ncmFwaC1kb2N0bw==")
                .header("Sec-WebSocket-Protocol", "heliograph.v1");
            request
                .timeout(RELAY_MAX)
                .send()
                .await
                .map_err(chat::causes)
        }
        Err(error) => Err(error),
    };
    match answer.map(|answer| answer.status().as_u16()) {
        Ok(101) => check("key", Verdict::Fine, "the relay takes this node key", None),
        Ok(401 | 403) => check(
            "key",
            Verdict::Wrong,
            "the relay refuses this node key",
            Some(
                "ask the relay's operator for one (it begins with hgn-), or whether it was taken back",
            ),
        ),
        Ok(status) => check(
            "key",
            Verdict::Warning,
            format!("the relay said {status} to it"),
            None,
        ),
        Err(error) => check(
            "key",
            Verdict::Warning,
            format!("could not be tried: {error:#}"),
            None,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_relay_that_is_not_there_is_wrong_and_no_key_is_sent_to_it() {
        let checks = look_at(Some("ws://127.0.0.1:1"), Ok(None)).await;
        let verdicts: Vec<_> = checks
            .iter()
            .map(|check| (check.what.as_str(), check.verdict))
            .collect();
        assert_eq!(
            verdicts,
            [("key", Verdict::Warning), ("relay", Verdict::Wrong)]
        );
    }
}
