//! The order of turns, told ahead without walking the whole line: accounts are opened only as their turns come.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use protocol::JobId;

use super::{Line, Queue, Round, Ticket};
use crate::placement::{Need, NeedSet};

/// One turn to come; the fields are its rank. Turns of the same round go by the age of the account's first job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    start: Round,
    first: Ticket,
    ticket: Ticket,
}

/// Waiting jobs in the order of their turns.
#[derive(Debug)]
pub(crate) struct Order<'a> {
    queue: &'a Queue,
    needs: NeedSet,
    /// The next of those that came back.
    returned: Option<Ticket>,
    /// The next head that was not looked at.
    head: Option<Turn>,
    /// The next turn of each account that had one.
    opened: BinaryHeap<Reverse<Turn>>,
}

impl<'a> Order<'a> {
    pub(super) fn new(queue: &'a Queue, needs: NeedSet) -> Self {
        let mut order = Self {
            queue,
            needs,
            returned: None,
            head: None,
            opened: BinaryHeap::new(),
        };
        order.returned = order.next_in(&queue.returned, 0);
        order.head = order.head_after(None);
        order
    }

    fn wanted(&self) -> impl Iterator<Item = Need> + use<'a> {
        let needs = self.needs;
        self.queue.needs().filter(move |need| needs.contains(*need))
    }

    /// The oldest from this ticket on.
    fn next_in(&self, line: &Line, from: Ticket) -> Option<Ticket> {
        self.wanted()
            .filter_map(|need| line.at_or_after(need, from))
            .min()
    }

    /// The first turn of the next account that has had none.
    fn head_after(&self, last: Option<Turn>) -> Option<Turn> {
        let mut after = last.map(|turn| (turn.start, turn.ticket));
        loop {
            let head = self
                .wanted()
                .filter_map(|need| self.queue.next_head(need, after));
            let (start, ticket) = head.min()?;
            after = Some((start, ticket));
            // An account has one head for each need; its turn is that of the oldest.
            let waiting = self.queue.waiting.get(&ticket)?;
            let flow = self.queue.flows.get(&waiting.account)?;
            if self.next_in(&flow.jobs, 0) == Some(ticket) {
                return Some(Turn {
                    start,
                    first: ticket,
                    ticket,
                });
            }
        }
    }

    fn next_turn(&mut self) -> Option<Turn> {
        let opened = self.opened.peek().map(|Reverse(turn)| *turn);
        let turn = match (opened, self.head) {
            (Some(opened), Some(head)) => opened.min(head),
            (one, other) => one.or(other)?,
        };
        if self.head == Some(turn) {
            self.head = self.head_after(self.head);
        } else {
            self.opened.pop();
        }
        let waiting = self.queue.waiting.get(&turn.ticket)?;
        let flow = self.queue.flows.get(&waiting.account)?;
        if let Some(ticket) = self.next_in(&flow.jobs, turn.ticket.saturating_add(1)) {
            self.opened.push(Reverse(Turn {
                start: turn.start.saturating_add(waiting.bill.rounds()),
                first: turn.first,
                ticket,
            }));
        }
        Some(turn)
    }
}

impl Iterator for Order<'_> {
    type Item = (Ticket, JobId);

    fn next(&mut self) -> Option<Self::Item> {
        let ticket = if let Some(ticket) = self.returned {
            self.returned = self.next_in(&self.queue.returned, ticket.saturating_add(1));
            ticket
        } else {
            self.next_turn()?.ticket
        };
        Some((ticket, self.queue.job(ticket)?))
    }
}
