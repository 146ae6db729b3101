//! One model's waiting jobs, and whose turn it is: deficit round robin in tokens between accounts.
//!
//! The rounds are computed, not walked. A quantum of one token makes them as fine as jobs allow, and an account pays
//! when it is served, so that its deficit may go below zero: it then sits out as many rounds as pay for it. The round in
//! which that is done is its *start*, and the smallest start is next. Who comes new starts in the current round, the
//! *clock*: a thousand jobs of one account delay another's first by none.
//!
//! Ageing: each served token moves the clock on by an eighth of what a fair share of it would be, even if nobody's start
//! does, and who comes later starts later. So a debt is forgiven once fair shares had paid it eight times over, however
//! many newcomers come in between: neither a big job nor an indebted account starves. The price is that an account of
//! small jobs beside one of big ones may get an eighth less than its share.
//!
//! A job that comes back after a lost attempt has paid, and stands before all others. Each need has lines of its own,
//! so that the next job that *can* be placed is found at once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use protocol::JobId;

use crate::placement::{Need, NeedSet};

mod order;

pub(crate) use order::Order;

/// A job's number in the order of submission, over all models.
pub(crate) type Ticket = u64;

/// Whose job it is.
pub(crate) type Account = Arc<str>;

/// A round: tokens for each unit of weight, in fractions of [`ROUNDS_PER_TOKEN`].
pub(crate) type Round = u64;

/// Fine enough that the largest weight does not round a token away.
const ROUNDS_PER_TOKEN: Round = 1_024;

/// What a fair share is divided by to move the clock on in any case. Large, so that paying counts.
const AGEING_DIVISOR: u64 = 8;

/// Places that are counted out one by one; those behind them are estimated.
const EXACT_PLACES: usize = 32;

/// Accounts without a waiting job whose debts are remembered; the smallest debts are forgiven first.
const DEBTORS_MAX: usize = 4_096;

/// What a job takes from its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bill {
    /// Of prompt and answer, as far as anyone can tell.
    pub(crate) tokens: u32,
    /// The job's weight; never 0.
    pub(crate) weight: u32,
}

impl Bill {
    fn rounds(self) -> Round {
        u64::from(self.tokens) * ROUNDS_PER_TOKEN / u64::from(self.weight.max(1))
    }
}

/// A job in line.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    /// Which.
    pub(crate) job: JobId,
    /// Who pays.
    pub(crate) account: Account,
    /// What a node must be able to do.
    pub(crate) need: Need,
    /// What it costs.
    pub(crate) bill: Bill,
    /// Whether it was served before and came back.
    pub(crate) is_returned: bool,
}

/// An account's jobs in one model's line.
#[derive(Debug, Default)]
struct Flow {
    /// The round in which all that it had is paid.
    finish: Round,
    /// The clock when its first job came; when it was last served, the round after.
    floor: Round,
    weight: u32,
    jobs: Line,
}

impl Flow {
    fn start(&self) -> Round {
        self.floor.max(self.finish)
    }

    fn is_idle(&self) -> bool {
        self.jobs.0.is_empty()
    }
}

/// Tickets by what their jobs need.
#[derive(Debug, Default)]
struct Line(BTreeSet<(Need, Ticket)>);

impl Line {
    fn first(&self, need: Need) -> Option<Ticket> {
        self.at_or_after(need, 0)
    }

    fn at_or_after(&self, need: Need, ticket: Ticket) -> Option<Ticket> {
        let (found, ticket) = *self.0.range((need, ticket)..).next()?;
        (found == need).then_some(ticket)
    }

    fn last(&self, need: Need) -> Option<Ticket> {
        let (found, ticket) = *self.0.range(..=(need, Ticket::MAX)).next_back()?;
        (found == need).then_some(ticket)
    }

    fn count_before(&self, need: Need, ticket: Ticket) -> usize {
        self.0.range((need, 0)..(need, ticket)).count()
    }
}

/// Who waits.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: BTreeMap<Ticket, Waiting>,
    returned: Line,
    flows: BTreeMap<Account, Flow>,
    /// The first job of each account and need.
    heads: BTreeSet<(Need, Round, Ticket)>,
    /// Jobs of each need; never 0.
    counts: BTreeMap<Need, usize>,
    /// Accounts without a waiting job that have not paid yet, by the round in which they will have.
    debtors: BTreeSet<(Round, Account)>,
    clock: Round,
    /// Of the accounts that wait.
    weight_sum: u64,
}

impl Queue {
    /// Takes a job in. Whether it is surely the last, so that nobody else's place changes.
    pub(crate) fn insert(&mut self, ticket: Ticket, waiting: Waiting) -> bool {
        if self.waiting.contains_key(&ticket) {
            return true;
        }
        let need = waiting.need;
        *self.counts.entry(need).or_default() += 1;
        let is_returned = waiting.is_returned;
        if is_returned {
            self.returned.0.insert((need, ticket));
        } else {
            let (clock, weight) = (self.clock, waiting.bill.weight.max(1));
            self.change(&waiting.account, |flow| {
                if flow.is_idle() {
                    flow.floor = clock;
                }
                flow.weight = weight;
                flow.jobs.0.insert((need, ticket));
            });
        }
        self.waiting.insert(ticket, waiting);
        !is_returned && self.accounts_waiting() == 1
    }

    /// Takes a job out.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<Waiting> {
        let waiting = self.waiting.remove(&ticket)?;
        let need = waiting.need;
        if let Some(count) = self.counts.get_mut(&need) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&need);
            }
        }
        if waiting.is_returned {
            self.returned.0.remove(&(need, ticket));
        } else {
            self.change(&waiting.account, |flow| {
                flow.jobs.0.remove(&(need, ticket));
            });
        }
        Some(waiting)
    }

    /// This job's turn has come: its account pays. What that is for the line as a whole; `None` where it has paid.
    pub(crate) fn charge(&mut self, ticket: Ticket) -> Option<Round> {
        let waiting = self.waiting.get(&ticket).filter(|w| !w.is_returned)?;
        let (account, bill) = (Arc::clone(&waiting.account), waiting.bill);
        let start = self.flows.get(&account)?.start();
        let share = u64::from(bill.tokens) * ROUNDS_PER_TOKEN / self.weight_sum.max(1);
        let aged = self.clock.saturating_add(share / AGEING_DIVISOR);
        let clock = aged.max(start);
        self.clock = clock;
        self.change(&account, |flow| {
            flow.finish = start.saturating_add(bill.rounds());
            // Behind whoever comes new, but not for ever.
            flow.floor = clock.saturating_add(1);
        });
        self.forgive();
        Some(share)
    }

    /// A job that had paid `estimate` cost `real`. Whether that may change somebody's place.
    pub(crate) fn settle(&mut self, account: &Account, estimate: Bill, real: Bill) -> bool {
        let (estimate, real) = (estimate.rounds(), real.rounds());
        let clock = self.clock;
        self.change(account, |flow| {
            if real <= estimate {
                flow.finish = flow.finish.saturating_sub(estimate - real);
                return;
            }
            // Who is not remembered, or was forgiven, owes no more than this.
            let owed = if flow.is_idle() { clock } else { flow.floor };
            flow.finish = flow.finish.max(owed).saturating_add(real - estimate);
        });
        self.forgive();
        let flow = self.flows.get(account);
        real != estimate && flow.is_some_and(|flow| !flow.is_idle())
    }

    /// The first job with exactly this need, by round; those that came back have round 0.
    pub(crate) fn first(&self, need: Need) -> Option<(Round, Ticket)> {
        let returned = self.returned.first(need).map(|ticket| (0, ticket));
        returned.or_else(|| {
            let (start, ticket) = self.next_head(need, None)?;
            Some((start.saturating_add(1), ticket))
        })
    }

    /// What the waiting jobs need.
    pub(crate) fn needs(&self) -> impl Iterator<Item = Need> + Clone + '_ {
        self.counts.keys().copied()
    }

    /// Who holds this ticket.
    pub(crate) fn job(&self, ticket: Ticket) -> Option<JobId> {
        self.waiting.get(&ticket).map(|waiting| waiting.job)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How many of these needs wait.
    pub(crate) fn len_of(&self, needs: NeedSet) -> usize {
        let counts = self.counts.iter();
        counts
            .filter(|(need, _)| needs.contains(**need))
            .map(|(_, count)| count)
            .sum()
    }

    /// Those with one of these needs, in the order in which their turns will come if nobody else does.
    pub(crate) fn order(&self, needs: NeedSet) -> Order<'_> {
        Order::new(self, needs)
    }

    /// One job's place among those with one of these needs; counts from 1. Exact near the head, estimated behind it.
    pub(crate) fn place(&self, ticket: Ticket, needs: NeedSet) -> u32 {
        let Some(waiting) = self.waiting.get(&ticket) else {
            return 1;
        };
        let ahead = self.ahead_in_flow(waiting, ticket, needs);
        if ahead < EXACT_PLACES {
            let mut near = self.order(needs).take(EXACT_PLACES);
            if let Some(place) = near.position(|(other, _)| other == ticket) {
                return place_of_index(place);
            }
        }
        // In each round every account has about one turn, as long as it has jobs.
        let turns = ahead.saturating_mul(self.accounts_waiting());
        let behind = self.returned.0.len().saturating_add(turns);
        let last = self.len_of(needs).saturating_sub(1);
        place_of_index(behind.max(EXACT_PLACES).min(last))
    }

    /// Jobs of the same account before this one.
    fn ahead_in_flow(&self, waiting: &Waiting, ticket: Ticket, needs: NeedSet) -> usize {
        let line = if waiting.is_returned {
            &self.returned
        } else if let Some(flow) = self.flows.get(&waiting.account) {
            &flow.jobs
        } else {
            return 0;
        };
        let mut needs = self.needs().filter(|need| needs.contains(*need));
        let is_newest = |need| line.last(need).is_none_or(|last| last <= ticket);
        if self.counts.len() == 1 && needs.clone().all(is_newest) {
            return line.0.len().saturating_sub(1);
        }
        needs
            .by_ref()
            .map(|need| line.count_before(need, ticket))
            .sum()
    }

    fn accounts_waiting(&self) -> usize {
        self.flows.len() - self.debtors.len()
    }

    /// Changes an account's flow and brings the heads, the debtors and the weights up to date.
    fn change(&mut self, account: &Account, change: impl FnOnce(&mut Flow)) {
        let mut flow = self.flows.remove(account).unwrap_or_default();
        if flow.is_idle() {
            self.debtors.remove(&(flow.finish, Arc::clone(account)));
        } else {
            self.weight_sum -= u64::from(flow.weight);
            self.put_heads(&flow, false);
        }
        change(&mut flow);
        if flow.is_idle() {
            if flow.finish <= self.clock {
                return;
            }
            self.debtors.insert((flow.finish, Arc::clone(account)));
        } else {
            self.weight_sum += u64::from(flow.weight);
            self.put_heads(&flow, true);
        }
        self.flows.insert(Arc::clone(account), flow);
    }

    fn put_heads(&mut self, flow: &Flow, into: bool) {
        let mut from = flow.jobs.0.first().copied();
        while let Some((need, ticket)) = from {
            let head = (need, flow.start(), ticket);
            if into {
                self.heads.insert(head);
            } else {
                self.heads.remove(&head);
            }
            let rest = (Bound::Excluded((need, Ticket::MAX)), Bound::Unbounded);
            from = flow.jobs.0.range(rest).next().copied();
        }
    }

    /// Forgets the accounts that have paid.
    fn forgive(&mut self) {
        while let Some((paid, _)) = self.debtors.first() {
            if *paid > self.clock && self.debtors.len() <= DEBTORS_MAX {
                return;
            }
            if let Some((_, account)) = self.debtors.pop_first() {
                self.flows.remove(&account);
            }
        }
    }

    /// The next head of this need after `after`.
    fn next_head(&self, need: Need, after: Option<(Round, Ticket)>) -> Option<(Round, Ticket)> {
        let from = match after {
            Some((start, ticket)) => Bound::Excluded((need, start, ticket)),
            None => Bound::Included((need, 0, 0)),
        };
        let (found, start, ticket) = *self.heads.range((from, Bound::Unbounded)).next()?;
        (found == need).then_some((start, ticket))
    }

    /// How many accounts owe or wait.
    #[cfg(test)]
    pub(crate) fn accounts(&self) -> usize {
        self.flows.len()
    }
}

fn place_of_index(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests;
