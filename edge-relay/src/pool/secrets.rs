//! What tickets are signed with. Tickets must outlive a restart, so these secrets lie in the pool's own storage: the
//! one thing beside attachments and an alarm that a pool stores. They are never logged and never sent.
//!
//! A write holds back what the pool sends until it is done. So secrets are made and changed when the pool is constructed
//! or found idle, never while a job is under way.

use scheduler::{Millis, Secret};
use worker::{Error, Result, SqlStorage, SqlStorageValue};

use crate::random::random;

/// A secret signs for a day at least. Tickets are good for a day, so the one before it is trusted long enough.
const SIGNS_MS_MAX: Millis = 24 * 60 * 60 * 1_000;

/// How many are kept: the one that signs, and the one before it.
const KEPT: usize = 2;

/// The secrets in force, the newest first.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    all: Vec<Secret>,
    made_at: Millis,
}

impl Secrets {
    /// Reads them, and makes a new one where there is none or the newest is a day old.
    pub(crate) fn load(sql: &SqlStorage, now: Millis) -> Self {
        let stored = read(sql).and_then(|stored| {
            if stored.is_stale(now) {
                stored.followed_by_new(sql, now)
            } else {
                Ok(stored)
            }
        });
        stored.unwrap_or_else(|_| {
            // The error could quote a row.
            worker::console_error!("no storage for secrets: tickets will not outlive a restart");
            Self::default().with(fresh(), now)
        })
    }

    /// What the scheduler gets.
    pub(crate) fn all(&self) -> Vec<Secret> {
        self.all.clone()
    }

    /// Whether it is time for a new one.
    pub(crate) fn is_stale(&self, now: Millis) -> bool {
        self.all.is_empty() || now.saturating_sub(self.made_at) >= SIGNS_MS_MAX
    }

    fn with(mut self, secret: Secret, made_at: Millis) -> Self {
        self.all.insert(0, secret);
        self.all.truncate(KEPT);
        Self { made_at, ..self }
    }

    fn followed_by_new(self, sql: &SqlStorage, now: Millis) -> Result<Self> {
        let secret = fresh();
        let made_at = SqlStorageValue::try_from_i64(i64::try_from(now).unwrap_or(i64::MAX))?;
        let row = vec![made_at, secret.0.to_vec().into()];
        sql.exec(
            "INSERT INTO ticket_secrets (made_at_ms, secret) VALUES (?, ?)",
            row,
        )?;
        sql.exec(
            "DELETE FROM ticket_secrets WHERE id NOT IN \
             (SELECT id FROM ticket_secrets ORDER BY id DESC LIMIT 2)",
            None,
        )?;
        Ok(self.with(secret, now))
    }
}

fn fresh() -> Secret {
    Secret(random())
}

fn read(sql: &SqlStorage) -> Result<Secrets> {
    // A table that is there already costs no write.
    sql.exec(
        "CREATE TABLE IF NOT EXISTS ticket_secrets \
         (id INTEGER PRIMARY KEY, made_at_ms INTEGER NOT NULL, secret BLOB NOT NULL)",
        None,
    )?;
    let rows = sql.exec(
        "SELECT made_at_ms, secret FROM ticket_secrets ORDER BY id LIMIT 2",
        None,
    )?;
    let mut secrets = Secrets::default();
    for row in rows.raw() {
        let (secret, made_at) = parsed(&row?)?;
        secrets = secrets.with(secret, made_at);
    }
    Ok(secrets)
}

fn parsed(row: &[SqlStorageValue]) -> Result<(Secret, Millis)> {
    let unreadable = || Error::from("a stored secret cannot be read");
    let [
        SqlStorageValue::Integer(made_at),
        SqlStorageValue::Blob(secret),
    ] = row
    else {
        return Err(unreadable());
    };
    let secret = secret.as_slice().try_into().map_err(|_| unreadable())?;
    let made_at = Millis::try_from(*made_at).map_err(|_| unreadable())?;
    Ok((Secret(secret), made_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_secret_signs_and_one_older_is_kept() {
        let secrets = Secrets::default()
            .with(Secret([1; 32]), 1)
            .with(Secret([2; 32]), 2)
            .with(Secret([3; 32]), 3);
        assert_eq!(secrets.all(), vec![Secret([3; 32]), Secret([2; 32])]);
    }

    #[test]
    fn a_secret_signs_for_a_day() {
        assert!(Secrets::default().is_stale(0));
        let secrets = Secrets::default().with(Secret([1; 32]), 5);
        assert!(!secrets.is_stale(5 + SIGNS_MS_MAX - 1));
        assert!(secrets.is_stale(5 + SIGNS_MS_MAX));
    }

    #[test]
    fn a_row_that_is_none_of_ours_is_refused() {
        let good = [
            SqlStorageValue::Integer(7),
            SqlStorageValue::Blob(vec![9; 32]),
        ];
        assert_eq!(parsed(&good).unwrap(), (Secret([9; 32]), 7));
        let short = [
            SqlStorageValue::Integer(7),
            SqlStorageValue::Blob(vec![9; 31]),
        ];
        assert!(parsed(&short).is_err());
        assert!(parsed(&[]).is_err());
    }
}
