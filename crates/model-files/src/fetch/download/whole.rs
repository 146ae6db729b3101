//! A file as a whole, from a host that knows no ranges: one connection, and from the beginning at each try.

use std::fs::File;
use std::io::Write as _;

use super::connection::Broken;
use super::tries::Tries;
use super::{Download, Ended};
use crate::cache::discard;
use crate::error::FetchError;
use crate::http::{self, Fault};
use crate::progress::Progress;

impl Download<'_> {
    /// Fetches all of it, of a known size or not.
    pub(super) async fn whole(&mut self, bytes: Option<u64>) -> Result<Ended, FetchError> {
        discard(self.partial);
        self.has_left_over = false;
        self.check_room_after(0, bytes)?;
        let mut tries = Tries::new(self.settings, 1);
        loop {
            (self.tell)(Progress::Begun {
                have: 0,
                total: bytes,
                connections: 1,
            });
            match self.whole_once(bytes).await {
                Ok(()) => return Ok(Ended::Whole),
                Err(Broken::Fault(Fault::Changed)) => return Ok(Ended::Changed),
                Err(Broken::Fault(fault)) => self.pause(&mut tries, fault).await?,
                Err(Broken::Disk(error)) => {
                    // Nothing of it can be used later.
                    discard(self.partial);
                    return Err(self.place.write_failed(error, bytes.unwrap_or(0)));
                }
                Err(Broken::Failed(error)) => {
                    discard(self.partial);
                    return Err(error);
                }
            }
        }
    }

    /// Refuses where there is not enough room for what is still to come: all of it, or as much as comes before the next
    /// look.
    fn check_room_after(&self, have: u64, bytes: Option<u64>) -> Result<(), FetchError> {
        let missing = match bytes {
            Some(bytes) => bytes.saturating_sub(have),
            None => self.settings.save_bytes,
        };
        let room = missing.saturating_add(self.extra_bytes);
        self.place.check_room(room, self.settings.reserve_bytes)
    }

    async fn whole_once(&mut self, bytes: Option<u64>) -> Result<(), Broken> {
        let mut response = http::ask_whole(self.client, self.url)
            .await
            .map_err(Broken::Fault)?;
        let mut file = File::create(self.partial).map_err(Broken::Disk)?;
        let mut have: u64 = 0;
        let mut looked_at: u64 = 0;
        while let Some(part) = response
            .chunk()
            .await
            .map_err(|error| Broken::Fault(http::passing(&error)))?
        {
            let had = have;
            have = have.saturating_add(part.len() as u64);
            if bytes.is_some_and(|bytes| have > bytes) {
                return Err(Broken::Fault(Fault::Changed));
            }
            if bytes.is_none() && have > self.settings.unknown_bytes_max {
                return Err(Broken::Failed(FetchError::TooLong {
                    host: http::host(self.url),
                    max: self.settings.unknown_bytes_max,
                }));
            }
            // Others write to the disk too, and how much comes may not be known.
            if have.saturating_sub(looked_at) >= self.settings.save_bytes {
                self.check_room_after(had, bytes).map_err(Broken::Failed)?;
                looked_at = have;
            }
            file.write_all(&part).map_err(Broken::Disk)?;
            (self.tell)(Progress::Received { have, total: bytes });
        }
        if bytes.is_some_and(|bytes| have != bytes) {
            return Err(Broken::Fault(Fault::Changed));
        }
        Ok(())
    }
}
