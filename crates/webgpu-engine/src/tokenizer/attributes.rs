//! What each token is: text, control, a byte; and which ones end an answer.
//!
//! Files often mark such tokens wrongly, so llama.cpp corrects them by their texts when it loads a vocabulary
//! (`llama_vocab::impl::load`); the same corrections are made here, since what a text becomes depends on them.

use super::lookup::Lookup;
use super::vocabulary::{NamedTokens, Vocabulary};

/// A set of what a token may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Attributes(u8);

impl Attributes {
    pub(super) const NORMAL: Self = Self(1);
    pub(super) const UNKNOWN: Self = Self(2);
    pub(super) const CONTROL: Self = Self(4);
    pub(super) const USER_DEFINED: Self = Self(8);
    pub(super) const BYTE: Self = Self(16);
    /// Blanks before it belong to it.
    pub(super) const STRIPS_LEFT: Self = Self(32);
    /// Blanks behind it belong to it.
    pub(super) const STRIPS_RIGHT: Self = Self(64);
    /// Hidden in an answer, and in a text only found where asked for.
    pub(super) const HIDDEN: Self = Self(2 | 4);
    /// Set apart before the rest of a text is cut.
    pub(super) const SPECIAL: Self = Self(2 | 4 | 8);

    /// By `tokenizer.ggml.token_type`; unused (5) and undefined tokens are nothing.
    fn of_type(number: i32) -> Self {
        match number {
            1 => Self::NORMAL,
            2 => Self::UNKNOWN,
            3 => Self::CONTROL,
            4 => Self::USER_DEFINED,
            6 => Self::BYTE,
            _ => Self::default(),
        }
    }

    /// Whether it is any of `others`.
    pub(super) const fn any(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    fn set(&mut self, others: Self, whether: bool) {
        if whether {
            self.0 |= others.0;
        } else {
            self.0 &= !others.0;
        }
    }
}

/// Texts of tokens that end an answer.
const ENDS: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Texts of tokens for filling in the middle, and whether such a token ends an answer. Where several of one row are in
/// a vocabulary the first counts; llama.cpp takes whichever its hash table gives first.
const FILLING: [(Part, bool, &[&str]); 6] = [
    (
        |named| named.fim_pre,
        false,
        &[
            "<|fim_prefix|>",
            "<fim-prefix>",
            "<fim_prefix>",
            "<｜fim▁begin｜>",
            "<PRE>",
            "▁<PRE>",
            "<|code_prefix|>",
            "<|prefix|>",
        ],
    ),
    (
        |named| named.fim_suf,
        false,
        &[
            "<|fim_suffix|>",
            "<fim-suffix>",
            "<fim_suffix>",
            "<｜fim▁hole｜>",
            "<SUF>",
            "▁<SUF>",
            "<|code_suffix|>",
            "<|suffix|>",
        ],
    ),
    (
        |named| named.fim_mid,
        false,
        &[
            "<|fim_middle|>",
            "<fim-middle>",
            "<fim_middle>",
            "<｜fim▁end｜>",
            "<MID>",
            "▁<MID>",
            "<|code_middle|>",
            "<|middle|>",
        ],
    ),
    (
        |named| named.fim_pad,
        true,
        &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
    ),
    (
        |named| named.fim_rep,
        true,
        &[
            "<|fim_repo|>",
            "<|repo_name|>",
            "<fim-repo>",
            "<REPO>",
            "<reponame>",
        ],
    ),
    (|named| named.fim_sep, true, &["<|file_sep|>"]),
];

type Part = fn(&NamedTokens) -> Option<u32>;

/// Attributes by id, and the ids that end an answer, in order.
#[derive(Debug, Clone)]
pub(super) struct Kinds {
    attributes: Vec<Attributes>,
    ends: Vec<u32>,
}

impl Kinds {
    /// `named` holds ids of this vocabulary only.
    pub(super) fn new(vocabulary: &Vocabulary, named: &NamedTokens, lookup: &Lookup) -> Self {
        let count = vocabulary.tokens.count();
        let attributes = if vocabulary.types.is_empty() {
            vec![Attributes::NORMAL; count]
        } else {
            let types = vocabulary.types.iter().take(count);
            types.map(|it| Attributes::of_type(*it)).collect()
        };
        let mut these = Self {
            attributes,
            ends: Vec::new(),
        };
        these.find_ends(named, lookup);
        these.correct(lookup);
        these.find_strips(vocabulary, lookup);
        these.ends.sort_unstable();
        these.ends.dedup();
        these
    }

    pub(super) fn of(&self, token: u32) -> Attributes {
        let index = usize::try_from(token).ok();
        let attributes = index.and_then(|index| self.attributes.get(index));
        attributes.copied().unwrap_or_default()
    }

    /// Whether an answer is over with `token`.
    pub(super) fn is_end(&self, token: u32) -> bool {
        self.ends.binary_search(&token).is_ok()
    }

    /// The tokens that are any of `wanted`, in order.
    pub(super) fn those(&self, wanted: Attributes) -> impl Iterator<Item = u32> {
        let tokens = (0..).zip(&self.attributes);
        tokens.filter_map(move |(token, attributes)| attributes.any(wanted).then_some(token))
    }

    fn change(&mut self, token: u32, change: impl FnOnce(&mut Attributes)) {
        let index = usize::try_from(token).ok();
        if let Some(it) = index.and_then(|index| self.attributes.get_mut(index)) {
            change(it);
        }
    }

    fn mark(&mut self, token: u32, attributes: Attributes, whether: bool) {
        self.change(token, |it| it.set(attributes, whether));
    }

    fn find_ends(&mut self, named: &NamedTokens, lookup: &Lookup) {
        for (part, ends, texts) in FILLING {
            let token = part(named).or_else(|| {
                let known = texts
                    .iter()
                    .filter_map(|text| lookup.token(text.as_bytes()));
                let found = known.min()?;
                self.mark(found, Attributes::CONTROL, true);
                Some(found)
            });
            self.ends.extend(token.filter(|_| ends));
        }
        for text in ENDS {
            if let Some(token) = lookup.token(text.as_bytes()) {
                self.mark(token, Attributes::CONTROL, true);
                self.ends.push(token);
            }
        }
        self.ends
            .extend([named.eos, named.eot, named.eom].into_iter().flatten());
    }

    /// Two families use texts of others' last tokens for something else.
    fn correct(&mut self, lookup: &Lookup) {
        let find = |text: &str| lookup.token(text.as_bytes());
        for text in ["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"] {
            if let Some(token) = find(text) {
                self.change(token, |it| *it = Attributes::USER_DEFINED);
            }
        }
        let calls = find("<|call|>").or(find("<|calls|>")).is_some();
        let others = find("<|return|>").or(find("<|flush|>")).is_some();
        if let Some(end) = find("<|end|>").filter(|_| calls && others) {
            self.ends.retain(|token| *token != end);
            self.change(end, |it| *it = Attributes::USER_DEFINED);
        }
        let markers = find("<|tool_response>").or(find("<|plamo:eos|>"));
        if let Some(text) =
            find("</s>").filter(|_| markers.is_some_and(|it| self.ends.contains(&it)))
        {
            self.ends.retain(|token| *token != text);
            self.change(text, |it| *it = Attributes::NORMAL);
        }
    }

    fn find_strips(&mut self, vocabulary: &Vocabulary, lookup: &Lookup) {
        let pre = vocabulary.pre.as_deref().unwrap_or_default();
        let name = vocabulary.model_name.to_ascii_lowercase();
        let find = |text: &str| lookup.token(text.as_bytes());
        if ["jina-v2-de", "jina-v2-es", "jina-v2-code"]
            .iter()
            .any(|it| pre.contains(it))
        {
            if let Some(mask) = find("<mask>") {
                self.mark(mask, Attributes::STRIPS_LEFT, true);
            }
        } else if name.contains("phi-3") || name.contains("phi3") {
            let special: Vec<_> = self.those(Attributes::SPECIAL).collect();
            for token in special.into_iter().chain(find("</s>")) {
                self.mark(token, Attributes::STRIPS_RIGHT, true);
            }
            for text in ["<unk>", "<s>", "<|endoftext|>"] {
                if let Some(token) = find(text) {
                    self.mark(token, Attributes::STRIPS_RIGHT, false);
                }
            }
        } else if name.contains("modern-bert")
            && let Some(mask) = find("[MASK]")
        {
            self.mark(mask, Attributes::STRIPS_LEFT, true);
        }
    }
}
