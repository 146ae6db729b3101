//! Money is conserved: a ledger kept beside the relay, as the real one will be. Each answer byte that the relay takes from a
//! node is credited to that node once, whoever brings it again; what a payer owes for an answer is what all its nodes
//! together were credited.

use std::collections::BTreeMap;

use client_session::Event;
use protocol::{JobId, TokenFrame};
use scheduler::SocketId;

use crate::Millis;
use crate::invariant::{Facts, Invariant, Verdict};
use crate::observation::Observation;

/// One job's book.
#[derive(Debug, Default)]
struct Book {
    /// Everything before this is credited.
    credited_to: u32,
    credits: BTreeMap<usize, u64>,
    received: u64,
}

/// All books.
#[derive(Debug, Default)]
pub(crate) struct Money {
    books: BTreeMap<JobId, Book>,
}

impl Money {
    fn tokens(&mut self, socket: SocketId, frame: &[u8], facts: &Facts) {
        let Ok(frame) = TokenFrame::decode(frame) else {
            return;
        };
        for entry in frame.entries() {
            let Some(attempt) = facts.shadow.attempts.get(&entry.alias) else {
                continue;
            };
            // The shadow has taken in the frame already: what it took ends at its offset or before.
            let Some(end) = entry.end_offset().filter(|end| *end <= attempt.offset) else {
                continue;
            };
            if attempt.socket != socket || attempt.is_stopping || !attempt.is_accepted {
                continue;
            }
            let book = self.books.entry(attempt.job).or_default();
            let fresh = end.saturating_sub(book.credited_to.max(entry.offset));
            book.credited_to = book.credited_to.max(end);
            *book.credits.entry(attempt.node).or_default() += u64::from(fresh);
        }
    }

    fn settle(&self, job: JobId) -> Verdict {
        let Some(book) = self.books.get(&job) else {
            return Ok(());
        };
        let credited: u64 = book.credits.values().sum();
        if credited != u64::from(book.credited_to) || credited != book.received {
            return Err(format!(
                "{job}: its user owes {} bytes, its nodes are credited {credited} of {}",
                book.received, book.credited_to
            ));
        }
        Ok(())
    }
}

impl Invariant for Money {
    fn name(&self) -> &'static str {
        "money conserved"
    }

    fn see(&mut self, _now: Millis, what: &Observation<'_>, facts: &Facts) -> Verdict {
        match what {
            Observation::NodeTokens { socket, frame } => self.tokens(*socket, frame, facts),
            Observation::UserHears { job, event, .. } => match event {
                Event::Delta { text, .. } => {
                    self.books.entry(*job).or_default().received += text.len() as u64;
                }
                Event::Completed { .. } => {
                    // A node that ends an answer early leaves less than others had brought.
                    let view = facts.shadow.job(*job);
                    if view.is_some_and(|view| !view.has_false_bytes) {
                        return self.settle(*job);
                    }
                }
                Event::Queued { .. }
                | Event::Assigned { .. }
                | Event::Started { .. }
                | Event::Reconnecting
                | Event::Failed(_)
                | Event::Interrupted => {}
            },
            _ => {}
        }
        Ok(())
    }
}
