//! Waiting for events with a deadline.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result};

/// Far beyond what anything takes on a busy laptop; only a fault gets here.
pub const DEADLINE: Duration = Duration::from_mins(2);

/// Files and HTTP say nothing by themselves when they change; they are looked at this often.
const POLL: Duration = Duration::from_millis(50);

/// Waits for an event; says what was awaited when it does not come.
pub async fn within<T>(what: &str, event: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(DEADLINE, event)
        .await
        .with_context(|| format!("{what}: nothing within {} s", DEADLINE.as_secs()))?
        .with_context(|| what.to_owned())
}

/// Looks at something that cannot notify until it is as awaited.
pub async fn until<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> Result<T> {
    within(what, async {
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            tokio::time::sleep(POLL).await;
        }
    })
    .await
}
