//! One question, one blow, one answer.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use protocol::ChatRequest;
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::judge::{self, Answer};
use super::scene::Scene;
use super::subject::stop_within;
use super::user::{User, What};
use super::{Blow, Case};

/// The blow falls after so many pieces of the answer at most; the answers have more.
const PIECES_BEFORE_MAX: u32 = 90;

/// And then after so long, so that it falls between tokens, too.
const MOMENT_MAX_MS: u32 = 40;

/// What is going to happen.
#[derive(Debug)]
pub(super) struct Round {
    case: Case,
    request: ChatRequest,
    by_http: bool,
    pieces_before: u32,
    moment: Duration,
}

/// What has happened.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Whether the blow fell before the answer had ended.
    pub(super) struck: bool,
    pub(super) job: Option<String>,
    pub(super) text: String,
    pub(super) twin: Option<String>,
    /// The longest time without a word from the blow on.
    pub(super) pause_ms: Option<u64>,
    /// The median of all other times between two words.
    pub(super) usual_ms: Option<u64>,
    pub(super) faults: Vec<String>,
    /// What was asked.
    pub(super) request: ChatRequest,
}

impl Round {
    pub(super) fn draw(case: Case, number: u32, rng: &mut ChaCha8Rng) -> Self {
        let by_http = match (case.blow.meets_sockets(), case.blow.meets_http()) {
            (true, true) => number % 2 == 1,
            (sockets, _) => !sockets,
        };
        Self {
            case,
            request: case.subject.request(rng),
            by_http,
            // An answer that has not begun is one of the moments.
            pieces_before: rng.next_u32() % PIECES_BEFORE_MAX,
            moment: Duration::from_millis(u64::from(rng.next_u32() % MOMENT_MAX_MS)),
        }
    }

    pub(super) async fn run(mut self, scene: &mut Scene) -> Result<Outcome> {
        let mut user = if self.by_http {
            match scene.python.take() {
                Some(python) => User::Http(python),
                None => User::http(scene)?,
            }
        } else {
            User::socket(scene).await?
        };
        let mut twin = None;
        if self.case.subject.has_twin() {
            let (unbroken, pieces) = unbroken(&mut user, &self.request).await?;
            // In the middle of this answer, and not after its end.
            self.pieces_before %= (pieces * 9 / 10).max(1);
            if self.case.subject.needs_twin_first() {
                self.request.stop = stop_within(&unbroken).into_iter().collect();
                let before = self
                    .request
                    .stop
                    .first()
                    .and_then(|stop| unbroken.find(stop.as_str()));
                twin = before.and_then(|end| unbroken.get(..end).map(str::to_owned));
                let Some(before) = &twin else {
                    // It says the same again and again: there is nothing to stop it with.
                    return Ok(Outcome::default());
                };
                // It will be shorter by what comes after the stop string.
                let share = self.pieces_before * u32::try_from(before.len())?;
                self.pieces_before = share / u32::try_from(unbroken.len())?.max(1);
            } else {
                twin = Some(unbroken);
            }
        }
        let mut outcome = Outcome {
            twin,
            job: user.ask(self.request.clone()).await?,
            ..Outcome::default()
        };
        let answer = self.watch(scene, &mut user, &mut outcome).await?;
        let is_whole = answer.is_some();
        if outcome.job.is_none() {
            outcome.job = user.id();
        }
        if let Some(answer) = answer {
            outcome.faults.extend(judge::faults(&self.request, &answer));
            let twin = outcome.twin.as_deref();
            outcome.faults.extend(self.case.subject.faults(
                &self.request,
                &answer.text,
                answer.finish_reason,
                twin,
            )?);
            outcome.text = answer.text;
        }
        if let (User::Http(python), true) = (user, is_whole) {
            // Starting one takes a second or two.
            scene.python = Some(python);
        }
        outcome.request = self.request;
        self.case.blow.mend(scene).await?;
        Ok(outcome)
    }

    /// Reads the answer to its end and strikes in the middle of it.
    async fn watch(
        &self,
        scene: &mut Scene,
        user: &mut User,
        outcome: &mut Outcome,
    ) -> Result<Option<Answer>> {
        let mut text = String::new();
        let mut times = Vec::new();
        while u32::try_from(times.len())? < self.pieces_before {
            let seen = user.next().await?;
            match seen.what {
                What::Text(piece) => {
                    text.push_str(&piece);
                    times.push(seen.at);
                }
                What::Ended(finish_reason, usage) => {
                    return Ok(Some(Answer {
                        text,
                        finish_reason,
                        usage,
                    }));
                }
                What::Broke(why) => {
                    outcome.faults.push(format!("before any blow: {why}"));
                    return Ok(None);
                }
            }
        }
        if times.is_empty() {
            crate::until("a rig has it", || async { Ok(scene.busy_rig().map(drop)) }).await?;
        }
        tokio::time::sleep(self.moment).await;
        if scene.busy_rig().is_none() {
            // The rig was quicker; what is left is on its way.
            return self.read_on(user, text, times, None, outcome).await;
        }
        outcome.struck = true;
        let struck_at = Instant::now();
        let blow: Blow = self.case.blow;
        let read = self.read_on(user, text, times, Some(struck_at), outcome);
        let (answer, ()) = tokio::try_join!(read, blow.strike(scene))?;
        Ok(answer)
    }

    async fn read_on(
        &self,
        user: &mut User,
        mut text: String,
        mut times: Vec<Instant>,
        struck_at: Option<Instant>,
        outcome: &mut Outcome,
    ) -> Result<Option<Answer>> {
        loop {
            let seen = user.next().await?;
            match seen.what {
                What::Text(piece) => {
                    text.push_str(&piece);
                    times.push(seen.at);
                }
                What::Ended(finish_reason, usage) => {
                    times.push(seen.at);
                    if let Some(struck_at) = struck_at {
                        (outcome.pause_ms, outcome.usual_ms) = pauses(&times, struck_at);
                    }
                    return Ok(Some(Answer {
                        text,
                        finish_reason,
                        usage,
                    }));
                }
                What::Broke(why) => {
                    let bytes = text.len();
                    outcome
                        .faults
                        .push(format!("it broke after {bytes} bytes: {why}"));
                    outcome.text = text;
                    return Ok(None);
                }
            }
        }
    }
}

impl Outcome {
    /// For a person who waits.
    pub(super) fn line(&self, number: u32) -> String {
        let what = if self.struck { "struck" } else { "missed" };
        let pause = self
            .pause_ms
            .map_or(String::new(), |ms| format!(", a pause of {ms} ms"));
        let bytes = self.text.len();
        let mut line = format!("round {number}: {what}, {bytes} bytes{pause}");
        for fault in &self.faults {
            _ = write!(line, "; FAULT {fault}");
        }
        line
    }
}

/// An answer that nobody strikes, and in how many pieces it came.
async fn unbroken(user: &mut User, request: &ChatRequest) -> Result<(String, u32)> {
    user.ask(request.clone()).await?;
    let (mut text, mut pieces) = (String::new(), 0);
    loop {
        match user.next().await?.what {
            What::Text(piece) => {
                text.push_str(&piece);
                pieces += 1;
            }
            What::Ended(..) => return Ok((text, pieces)),
            What::Broke(why) => anyhow::bail!("an answer that nobody struck broke: {why}"),
        }
    }
}

/// The longest time between two words that ended after the blow, and the median of the others.
fn pauses(times: &[Instant], struck_at: Instant) -> (Option<u64>, Option<u64>) {
    let mut gaps: Vec<(Duration, bool)> = times
        .windows(2)
        .filter_map(|pair| match pair {
            [before, after] => Some((after.duration_since(*before), *after > struck_at)),
            _ => None,
        })
        .collect();
    if let Some(first) = times.first().filter(|first| **first > struck_at) {
        gaps.push((first.duration_since(struck_at), true));
    }
    let ms = |gap: Duration| u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
    let longest = gaps
        .iter()
        .filter(|(_, is_after)| *is_after)
        .map(|(gap, _)| *gap)
        .max();
    let mut all: Vec<Duration> = gaps.into_iter().map(|(gap, _)| gap).collect();
    all.sort_unstable();
    (longest.map(ms), all.get(all.len() / 2).copied().map(ms))
}
