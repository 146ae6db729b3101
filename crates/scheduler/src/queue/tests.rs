//! Behaviour of `queue` by itself, by sentence.

use proptest::prelude::*;
use protocol::{Capabilities, ChatRequest};

use super::*;

/// A line and who serves it.
#[derive(Default)]
struct Line {
    queue: Queue,
    last: Ticket,
    bills: BTreeMap<Ticket, (String, Bill)>,
}

fn plain() -> Need {
    Need::of(&ChatRequest::default().into())
}

fn bound() -> Need {
    Need::met_by(Capabilities {
        grammar: true,
        ..Capabilities::default()
    })
}

impl Line {
    fn add(&mut self, account: &str, tokens: u32) -> Ticket {
        self.add_with(account, Bill { tokens, weight: 1 }, plain(), false)
    }

    fn add_with(&mut self, account: &str, bill: Bill, need: Need, is_returned: bool) -> Ticket {
        self.last += 1;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.last.to_le_bytes());
        let waiting = Waiting {
            job: JobId::from_random(bytes),
            account: account.into(),
            need,
            bill,
            is_returned,
        };
        self.queue.insert(self.last, waiting);
        self.bills.insert(self.last, (account.to_owned(), bill));
        self.last
    }

    /// Gives the next job a slot.
    fn serve(&mut self) -> Option<(Ticket, String, u32)> {
        let next = self.queue.needs().filter_map(|need| self.queue.first(need));
        let (_, ticket) = next.min()?;
        self.queue.charge(ticket);
        self.queue.remove(ticket).unwrap();
        let (account, bill) = self.bills.remove(&ticket).unwrap();
        Some((ticket, account, bill.tokens))
    }

    fn settle(&mut self, account: &str, estimate: u32, real: u32) {
        let bill = |tokens| Bill { tokens, weight: 1 };
        self.queue
            .settle(&account.into(), bill(estimate), bill(real));
    }
}

/// Tokens that each account got in `turns`, while all keep waiting jobs.
fn served(accounts: &[(&str, Bill)], turns: usize) -> BTreeMap<String, u32> {
    let mut line = Line::default();
    for (account, bill) in accounts {
        for _ in 0..2 {
            line.add_with(account, *bill, plain(), false);
        }
    }
    let mut got = BTreeMap::new();
    for _ in 0..turns {
        let (_, account, tokens) = line.serve().unwrap();
        *got.entry(account.clone()).or_default() += tokens;
        let (_, bill) = accounts.iter().find(|(name, _)| **name == account).unwrap();
        line.add_with(&account, *bill, plain(), false);
    }
    got
}

const fn bill(tokens: u32, weight: u32) -> Bill {
    Bill { tokens, weight }
}

#[test]
fn accounts_share_tokens_not_jobs() {
    let accounts = [("talker", bill(1_000, 1)), ("asker", bill(100, 1))];
    let got = served(&accounts, 1_100);
    assert!(got["talker"].abs_diff(got["asker"]) <= 1_000, "{got:?}");
}

#[test]
fn weights_are_shares_of_tokens() {
    let accounts = [
        ("free", bill(300, 1)),
        ("pro", bill(500, 4)),
        ("max", bill(200, 10)),
    ];
    let got = served(&accounts, 3_000);
    let all: u32 = got.values().sum();
    for (account, share) in [("free", 1), ("pro", 4), ("max", 10)] {
        let wanted = all * share / 15;
        assert!(got[account].abs_diff(wanted) <= all / 100, "{got:?}");
    }
}

#[test]
fn a_newcomer_is_next_however_many_jobs_others_have() {
    let mut line = Line::default();
    for _ in 0..1_000 {
        line.add("hog", 500);
    }
    for turn in 0..100 {
        assert_eq!(line.serve().unwrap().1, "hog");
        let name = format!("new {turn}");
        // Big or small: what it owes it owes afterwards.
        line.add(&name, 10 + turn * 100);
        assert_eq!(line.serve().unwrap().1, name);
    }
}

#[test]
fn a_big_job_and_an_account_in_debt_do_not_starve_under_endless_newcomers() {
    let mut line = Line::default();
    line.add("big", 30_000);
    line.add("small", 10);
    assert_eq!(line.serve().unwrap().1, "big");
    // In debt by a long answer, and the next is as long.
    let big = line.add("big", 30_000);
    let mut tokens = 0;
    for turn in 0.. {
        line.add(&format!("new {turn}"), 100);
        let (ticket, _, cost) = line.serve().unwrap();
        if ticket == big {
            break;
        }
        tokens += cost;
        // Three or fewer wait at any time.
        assert!(tokens <= 30_000 * 8 * 3, "starved");
    }
    assert!(tokens > 20_000, "a debt counts: {tokens}");
}

#[test]
fn who_took_more_than_expected_waits_for_it_and_who_took_less_does_not() {
    for (real, wanted) in [(2_000, "fair"), (100, "other")] {
        let mut line = Line::default();
        line.add("fair", 1_000);
        line.add("other", 100);
        line.serve();
        line.serve();
        line.settle("other", 100, real);
        line.add("fair", 1_000);
        line.add("other", 100);
        assert_eq!(line.serve().unwrap().1, wanted);
    }
}

#[test]
fn an_estimate_that_was_corrected_counts_for_jobs_in_line_too() {
    let mut line = Line::default();
    for _ in 0..3 {
        line.add("liar", 10);
        line.add("fair", 100);
    }
    assert_eq!(line.serve().unwrap().1, "liar");
    line.settle("liar", 10, 10_000);
    for _ in 0..3 {
        assert_eq!(line.serve().unwrap().1, "fair");
    }
    // And what was too much is given back.
    let mut line = Line::default();
    line.add("careful", 10_000);
    line.add("careful", 10_000);
    line.add("fair", 100);
    line.add("fair", 100);
    line.add("fair", 100);
    assert_eq!(line.serve().unwrap().1, "careful");
    assert_eq!(line.serve().unwrap().1, "fair");
    line.settle("careful", 10_000, 10);
    assert_eq!(line.serve().unwrap().1, "careful");
}

#[test]
fn jobs_that_came_back_are_first_and_pay_once() {
    let mut line = Line::default();
    line.add("a", 100);
    let back = line.add_with("b", bill(5_000, 1), plain(), true);
    assert_eq!(line.queue.place(back, NeedSet::ALL), 1);
    assert_eq!(line.serve().unwrap().0, back);
    let next = line.add("b", 100);
    assert_eq!(line.serve().unwrap().1, "a");
    assert_eq!(line.serve().unwrap().0, next);
}

#[test]
fn a_job_of_another_need_is_reached_past_those_before_it() {
    let mut line = Line::default();
    for _ in 0..3 {
        line.add_with("a", bill(100, 1), bound(), false);
    }
    let plain_job = line.add("a", 100);
    assert_eq!(line.queue.first(plain()).unwrap().1, plain_job);
    let only_plain: NeedSet = [plain()].into_iter().collect();
    assert_eq!(line.queue.place(plain_job, only_plain), 1);
    assert_eq!(line.queue.place(plain_job, NeedSet::ALL), 4);
    assert_eq!(line.queue.len_of(only_plain), 1);
}

#[test]
fn accounts_that_have_paid_are_forgotten_and_debtors_are_bounded() {
    let mut line = Line::default();
    for turn in 0..10_000 {
        line.add(&format!("account {turn}"), 100);
        line.serve().unwrap();
        assert!(line.queue.accounts() <= 16, "{}", line.queue.accounts());
    }
    for turn in 0..10_000 {
        line.settle(&format!("debtor {turn}"), 0, 1_000_000);
    }
    assert!(line.queue.accounts() <= DEBTORS_MAX);
}

#[test]
fn places_behind_the_first_ones_are_estimated_within_the_line() {
    let mut line = Line::default();
    let tickets: Vec<Ticket> = (0..200).map(|_| line.add("a", 100)).collect();
    // Alone, an account knows its places exactly.
    for (index, ticket) in (1_u32..).zip(&tickets) {
        assert_eq!(line.queue.place(*ticket, NeedSet::ALL), index);
    }
    for account in 0..50 {
        line.add(&format!("other {account}"), 100);
    }
    let last = line.queue.place(tickets[199], NeedSet::ALL);
    assert_eq!(last, 250);
    let newest = line.add("newest", 100);
    let place = line.queue.place(newest, NeedSet::ALL);
    assert!((32..=60).contains(&place), "{place}");
}

proptest! {
    /// What is told of the order is what happens, if nobody comes.
    #[test]
    fn turns_come_in_the_order_that_was_told(
        jobs in prop::collection::vec((0_u8..5, 1_u32..2_000, 1_u32..5, any::<bool>(), 0_u8..10), 1..60),
        served in 0_usize..20,
    ) {
        let mut line = Line::default();
        for (account, tokens, weight, is_bound, returned) in jobs {
            let need = if is_bound { bound() } else { plain() };
            line.add_with(&account.to_string(), bill(tokens, weight), need, returned == 0);
        }
        for _ in 0..served {
            line.serve();
        }
        // An account's weight is that of its last job, so that only the next turn is certain.
        while let Some((told, _)) = line.queue.order(NeedSet::ALL).next() {
            let places: Vec<u32> = line
                .queue
                .order(NeedSet::ALL)
                .take(10)
                .map(|(ticket, _)| line.queue.place(ticket, NeedSet::ALL))
                .collect();
            prop_assert!(places.iter().copied().eq(1..=u32::try_from(places.len()).unwrap()));
            prop_assert_eq!(line.queue.order(NeedSet::ALL).count(), line.queue.len());
            prop_assert_eq!(line.serve().unwrap().0, told);
        }
        prop_assert_eq!(line.queue.weight_sum, 0);
        prop_assert!(line.queue.heads.is_empty() && line.queue.counts.is_empty());
        prop_assert_eq!(line.queue.accounts(), line.queue.debtors.len());
    }
}
