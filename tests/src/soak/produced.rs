//! What rigs say that they produced (`--log-hashes`): for each delta, where its attempt began, where it came, and the hash
//! of the bytes between.

use std::collections::BTreeMap;

use protocol::AnswerHash;
use serde::Deserialize;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error, StrDeserializer};

/// All lines of all rigs, by job.
#[derive(Debug, Default)]
pub(super) struct Produced {
    jobs: BTreeMap<String, Vec<Line>>,
}

#[derive(Debug)]
struct Line {
    attempt: u32,
    from: usize,
    to: usize,
    hash: AnswerHash,
}

impl Produced {
    /// Reads logs.
    pub(super) fn read(logs: &str) -> Self {
        let mut produced = Self::default();
        for line in logs.lines().filter(|line| line.contains(" produced ")) {
            if let Some((job, line)) = parse(line) {
                produced.jobs.entry(job).or_default().push(line);
            }
        }
        produced
    }

    /// Where each of the attempts behind an answer began, if what they produced is this text: each began at the byte
    /// where the one before it ended, and every byte between is of the hash that its maker logged.
    pub(super) fn attempts_behind(&self, job: &str, text: &str) -> Result<Vec<usize>, String> {
        let lines = self.jobs.get(job).ok_or("no rig logged anything of it")?;
        // How the answer can have come so far, by as few attempts as possible.
        let mut reached: BTreeMap<usize, Vec<usize>> = BTreeMap::from([(0, Vec::new())]);
        let mut sorted: Vec<&Line> = lines.iter().filter(|line| line.to <= text.len()).collect();
        sorted.sort_by_key(|line| (line.from, line.attempt, line.to));
        for line in sorted {
            let Some(mut begins) = reached.get(&line.from).cloned() else {
                continue;
            };
            begins.push(line.from);
            let bytes = text.as_bytes().get(line.from..line.to);
            if bytes.is_some_and(|bytes| AnswerHash::of(bytes) == line.hash) {
                let known = reached.entry(line.to).or_insert_with(|| begins.clone());
                if begins.len() < known.len() {
                    *known = begins;
                }
            }
        }
        let furthest = reached.keys().next_back().copied().unwrap_or(0);
        reached.remove(&text.len()).ok_or_else(|| {
            format!(
                "{} bytes came, and what rigs logged agrees with the first {furthest} only",
                text.len()
            )
        })
    }
}

/// `… produced job=… attempt=… from=… to=… hash=AnswerHash(…)`
fn parse(line: &str) -> Option<(String, Line)> {
    let field = |name: &str| {
        line.split_whitespace()
            .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
    };
    let hash = field("hash")?
        .strip_prefix("AnswerHash(")?
        .strip_suffix(')')?;
    let hash: StrDeserializer<'_, Error> = hash.into_deserializer();
    let line = Line {
        attempt: field("attempt")?.parse().ok()?,
        from: field("from")?.parse().ok()?,
        to: field("to")?.parse().ok()?,
        hash: AnswerHash::deserialize(hash).ok()?,
    };
    Some((field("job")?.to_owned(), line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(attempt: u32, from: usize, produced: &str) -> String {
        let hash = AnswerHash::of(produced.as_bytes());
        let to = from + produced.len();
        format!(
            "2026-01-01T00:00:00Z  INFO produced job=ab attempt={attempt} from={from} to={to} hash={hash:?}\n"
        )
    }

    #[test]
    fn an_answer_is_what_its_attempts_produced() {
        let first = log(1, 0, "one ") + &log(1, 0, "one two ") + &log(1, 0, "one two lost");
        let logs = first + &log(2, 8, "three");
        let produced = Produced::read(&logs);
        assert_eq!(
            produced.attempts_behind("ab", "one two three"),
            Ok(vec![0, 8])
        );
        assert_eq!(produced.attempts_behind("ab", "one "), Ok(vec![0]));
    }

    #[test]
    fn a_byte_too_many_or_too_few_is_seen() {
        let produced = Produced::read(&(log(1, 0, "one ") + &log(2, 4, "two")));
        for wrong in ["one one two", "one tw", "one  two", "two", "one twO"] {
            assert!(produced.attempts_behind("ab", wrong).is_err(), "{wrong}");
        }
        assert!(produced.attempts_behind("cd", "one two").is_err());
    }
}
