//! One connection, which brings one piece of a file to its place.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use tokio::sync::mpsc::Sender;
use tokio::time::sleep;

use crate::error::FetchError;
use crate::http::{self, Fault};
use crate::sidecar::Remote;

/// Why a connection ended before its piece did.
pub(super) enum Broken {
    Fault(Fault),
    Disk(std::io::Error),
    /// No try would go better.
    Failed(FetchError),
}

/// What a connection returns.
pub(super) struct Piece {
    /// What it did not bring.
    pub(super) left: Range<u64>,
    pub(super) broken: Option<Broken>,
}

#[derive(Clone, Copy)]
pub(super) struct Connection<'c> {
    pub(super) client: &'c Client,
    pub(super) url: &'c str,
    pub(super) remote: &'c Remote,
    pub(super) file: &'c File,
}

impl Connection<'_> {
    /// Brings one piece, after a pause.
    pub(super) async fn bring(
        self,
        piece: Range<u64>,
        pause: Duration,
        wrote: Sender<Range<u64>>,
    ) -> Piece {
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let mut left = piece;
        let broken = self.try_bring(&mut left, &wrote).await.err();
        Piece { left, broken }
    }

    async fn try_bring(
        self,
        left: &mut Range<u64>,
        wrote: &Sender<Range<u64>>,
    ) -> Result<(), Broken> {
        let mut response = http::ask(self.client, self.url, left.start, left.end)
            .await
            .map_err(Broken::Fault)?;
        let is_same = response.status() == StatusCode::PARTIAL_CONTENT
            && http::content_range(response.headers())
                == Some((left.start, left.end, self.remote.bytes))
            && http::validator(response.headers()) == self.remote.validator;
        if !is_same {
            return Err(Broken::Fault(Fault::Changed));
        }
        while let Some(part) = response
            .chunk()
            .await
            .map_err(|error| Broken::Fault(http::passing(&error)))?
        {
            let to = left.start.saturating_add(part.len() as u64);
            if to > left.end {
                return Err(Broken::Fault(Fault::Changed));
            }
            self.file
                .write_all_at(&part, left.start)
                .map_err(Broken::Disk)?;
            let range = left.start..to;
            left.start = to;
            // The coordinator outlives its connections.
            drop(wrote.send(range).await);
        }
        if left.is_empty() {
            Ok(())
        } else {
            Err(Broken::Fault(Fault::Passing {
                why: "the host ended the connection early".to_owned(),
                pause: None,
            }))
        }
    }
}
