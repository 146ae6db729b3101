//! What is asked at once: how many chats, how long, and which figure of it counts.

use super::streams::Figures;

/// Prompts of the cases that are about answers: a short question with the template around it.
const QUESTION_TOKENS: u32 = 128;

/// The prompt whose reading is measured.
const LONG_PROMPT_TOKENS: u32 = 512;

/// Where chats come one after the other, the time between two: some twenty tokens of those that run.
const STAGGER_MS: u32 = 150;

/// Tokens of an answer; enough for eight chats to be together most of the time.
const ANSWER_TOKENS: u32 = 128;
const ANSWER_TOKENS_QUICK: u32 = 24;

/// One way of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Case {
    /// One chat with a long prompt and a short answer.
    Prompt1,
    /// Chats at once.
    Answers {
        /// How many.
        streams: u32,
        /// Whether all ask the same.
        same: bool,
    },
    /// Eight chats, one after the other.
    Staggered8,
}

impl Case {
    /// All of them.
    pub(super) const ALL: [Self; 7] = [
        Self::Prompt1,
        Self::answers(1, false),
        Self::answers(4, false),
        Self::answers(4, true),
        Self::answers(8, false),
        Self::answers(8, true),
        Self::Staggered8,
    ];

    const fn answers(streams: u32, same: bool) -> Self {
        Self::Answers { streams, same }
    }

    /// The case of this name.
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|case| case.name() == name);
        found.ok_or_else(|| format!("one of {}", Self::ALL.map(Self::name).join(", ")))
    }

    /// Its name in JSON.
    pub(super) fn name(self) -> String {
        match self {
            Self::Prompt1 => "prompt_1".to_owned(),
            Self::Answers { streams, same } => {
                let same = if same { "_same" } else { "" };
                format!("generate_{streams}{same}")
            }
            Self::Staggered8 => "staggered_8".to_owned(),
        }
    }

    /// What the ratio of its times to the first token is called in JSON; that of `prompt_1` says nothing new.
    pub(super) fn first_token_name(self) -> Option<String> {
        match self {
            Self::Prompt1 => None,
            Self::Answers { .. } | Self::Staggered8 => {
                let name = self.name().replace("generate_", "");
                Some(format!("first_token_{name}"))
            }
        }
    }

    /// For people.
    pub(super) fn title(self) -> String {
        match self {
            Self::Prompt1 => format!("1 chat, reading {LONG_PROMPT_TOKENS} tokens"),
            Self::Answers { streams: 1, .. } => "1 chat, writing".to_owned(),
            Self::Answers { streams, same } => {
                let prompts = if same { "the same" } else { "different" };
                format!("{streams} chats, {prompts} prompts")
            }
            Self::Staggered8 => format!("8 chats, one each {STAGGER_MS} ms"),
        }
    }

    pub(super) const fn streams(self) -> u32 {
        match self {
            Self::Prompt1 => 1,
            Self::Answers { streams, .. } => streams,
            Self::Staggered8 => 8,
        }
    }

    pub(super) const fn is_same(self) -> bool {
        match self {
            Self::Prompt1 | Self::Staggered8 => false,
            Self::Answers { same, .. } => same,
        }
    }

    pub(super) const fn prompt_tokens(self) -> u32 {
        match self {
            Self::Prompt1 => LONG_PROMPT_TOKENS,
            Self::Answers { .. } | Self::Staggered8 => QUESTION_TOKENS,
        }
    }

    pub(super) const fn stagger_ms(self) -> u32 {
        match self {
            Self::Prompt1 | Self::Answers { .. } => 0,
            Self::Staggered8 => STAGGER_MS,
        }
    }

    pub(super) const fn answer_tokens(self, quick: bool) -> u32 {
        match self {
            Self::Prompt1 => 8,
            Self::Answers { .. } | Self::Staggered8 if quick => ANSWER_TOKENS_QUICK,
            Self::Answers { .. } | Self::Staggered8 => ANSWER_TOKENS,
        }
    }

    /// The rate that counts. With one chat, reading and writing are told apart; with several they happen at once, and
    /// what counts is all answers over all the time.
    pub(super) const fn rate(self, figures: &Figures) -> f64 {
        match self {
            Self::Prompt1 => figures.prompt_tokens_per_s,
            Self::Answers { streams: 1, .. } => figures.generate_tokens_per_s,
            Self::Answers { .. } | Self::Staggered8 => figures.total_tokens_per_s,
        }
    }
}
