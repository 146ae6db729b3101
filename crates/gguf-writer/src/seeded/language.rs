//! A small language model that answers in lower-case letters and never ends by itself. **Seeded weights, not a trained
//! model**: what it says means nothing, but it depends on all that it has read, and any engine must say the same.

use super::Draw;
use crate::{GgufWriter, ShapeMismatch, Value};

/// What the model remembers by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Attention, whose cache can be cut anywhere: llama.cpp's `llama`.
    Llama,
    /// A recurrent state, which has no parts: llama.cpp's `mamba`.
    Mamba,
    /// A layer of each: llama.cpp's `jamba`.
    Jamba,
}

/// Numbers per token.
const WIDTH: u32 = 64;
/// Width of the feed-forward layers.
const FEED_FORWARD: u32 = 128;
const LAYERS: u32 = 2;
const HEADS: u32 = 4;
/// Heads of keys and values.
const SHARED_HEADS: u32 = 2;
/// Numbers per token in a recurrent layer. llama.cpp knows no other.
const INNER: u32 = 2 * WIDTH;
/// Numbers that a recurrent layer keeps for each of [`INNER`].
const STATE: u32 = 8;
/// Tokens that a recurrent layer sees at once.
const KERNEL: u32 = 4;
/// Numbers from which a recurrent layer's steps in time are made.
const TIME_RANK: u32 = 4;

/// What a model is told in: its template, and the tokens that mean something. The vocabulary begins with these, control
/// tokens first; the bytes follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks<'m> {
    /// Control tokens. The second begins a text, the third ends an answer.
    pub controls: &'m [&'m str],
    /// Those that the vocabulary takes for text with a meaning.
    pub defined: &'m [&'m str],
    /// The chat template, in Jinja.
    pub template: &'m str,
}

impl Marks<'static> {
    /// Those of `ChatML`, and of a model that thinks.
    pub const CHATML: Self = Self {
        controls: &["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        defined: &["<think>", "</think>"],
        template: TEMPLATE,
    };
}

impl Marks<'_> {
    /// The id of one of them.
    pub fn id(&self, spelling: &str) -> Option<u32> {
        let mut all = self.controls.iter().chain(self.defined);
        let place = all.position(|&mark| mark == spelling)?;
        u32::try_from(place).ok()
    }
}

/// The usual one for `ChatML`.
const TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

impl Language {
    /// Tokens that it was made for.
    pub const CONTEXT_TOKENS: u32 = 4096;

    /// The file's content, told in `ChatML`.
    pub fn write(self, seed: u64) -> Result<GgufWriter, ShapeMismatch> {
        self.write_in(&Marks::CHATML, seed)
    }

    /// The file's content, told in these marks, none of which the model is likely to write by itself.
    pub fn write_in(self, marks: &Marks<'_>, seed: u64) -> Result<GgufWriter, ShapeMismatch> {
        let mut writer = GgufWriter::default();
        self.metadata(&mut writer, marks.template);
        let tokens = vocabulary(&mut writer, marks);
        let mut weights = Weights {
            writer,
            draw: Draw(seed),
        };
        let words = u64::try_from(tokens.len()).unwrap_or(u64::MAX);
        let width = u64::from(WIDTH);
        weights.add("token_embd.weight", &[width, words], 0.0, 1.0)?;
        weights.add("output_norm.weight", &[width], 1.0, 0.2)?;
        for layer in 0..LAYERS {
            let layer = Layer {
                weights: &mut weights,
                number: layer,
            };
            self.layer(layer)?;
        }
        let rows = tokens.iter().flat_map(|token| {
            // Only letters are ever likely: all other rows are nothing.
            let is_letter = matches!(token.as_bytes(), [b'a'..=b'z']);
            let spread = if is_letter { 0.3 } else { 0.0 };
            weights.draw.values(WIDTH.into(), 0.0, spread)
        });
        let rows = rows.collect();
        let mut writer = weights.writer;
        writer.tensor("output.weight", &[width, words], rows)?;
        Ok(writer)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mamba => "mamba",
            Self::Jamba => "jamba",
        }
    }

    /// Whether a layer has a recurrent state in place of attention.
    const fn is_recurrent(self, layer: u32) -> bool {
        match self {
            Self::Llama => false,
            Self::Mamba => true,
            Self::Jamba => layer == 0,
        }
    }

    fn metadata(self, writer: &mut GgufWriter, template: &str) {
        let name = self.name();
        let text = |text: &str| Value::Text(text.to_owned());
        writer.set("general.architecture", text(name));
        writer.set("general.name", text("seeded weights, not a trained model"));
        let (feed_forward, heads) = match self {
            Self::Llama | Self::Jamba => (FEED_FORWARD, HEADS),
            Self::Mamba => (0, 0),
        };
        for (key, value) in [
            ("context_length", Self::CONTEXT_TOKENS),
            ("embedding_length", WIDTH),
            ("feed_forward_length", feed_forward),
            ("block_count", LAYERS),
            ("attention.head_count", heads),
            ("ssm.conv_kernel", KERNEL),
            ("ssm.inner_size", INNER),
            ("ssm.state_size", STATE),
            ("ssm.time_step_rank", TIME_RANK),
        ] {
            writer.set(&format!("{name}.{key}"), Value::U32(value));
        }
        let shared = (0..LAYERS).map(|layer| {
            let heads = if self.is_recurrent(layer) {
                0
            } else {
                SHARED_HEADS
            };
            i32::try_from(heads).unwrap_or(0)
        });
        let shared = Value::I32s(shared.collect());
        writer.set(&format!("{name}.attention.head_count_kv"), shared);
        let epsilon = format!("{name}.attention.layer_norm_rms_epsilon");
        writer.set(&epsilon, Value::F32(1e-5));
        writer.set("tokenizer.chat_template", text(template));
    }

    fn layer(self, mut layer: Layer<'_>) -> Result<(), ShapeMismatch> {
        let (width, hidden) = (u64::from(WIDTH), u64::from(FEED_FORWARD));
        layer.add("attn_norm.weight", &[width], 1.0, 0.2)?;
        if self.is_recurrent(layer.number) {
            self.recurrence(&mut layer)?;
        } else {
            let shared = u64::from(WIDTH / HEADS * SHARED_HEADS);
            layer.add("attn_q.weight", &[width, width], 0.0, 0.2)?;
            layer.add("attn_k.weight", &[width, shared], 0.0, 0.2)?;
            layer.add("attn_v.weight", &[width, shared], 0.0, 0.6)?;
            layer.add("attn_output.weight", &[width, width], 0.0, 0.6)?;
        }
        if self == Self::Mamba {
            return Ok(());
        }
        layer.add("ffn_norm.weight", &[width], 1.0, 0.2)?;
        layer.add("ffn_gate.weight", &[width, hidden], 0.0, 0.2)?;
        layer.add("ffn_up.weight", &[width, hidden], 0.0, 0.2)?;
        layer.add("ffn_down.weight", &[hidden, width], 0.0, 0.1)
    }

    fn recurrence(self, layer: &mut Layer<'_>) -> Result<(), ShapeMismatch> {
        let (width, inner) = (u64::from(WIDTH), u64::from(INNER));
        let (state, rank) = (u64::from(STATE), u64::from(TIME_RANK));
        layer.add("ssm_in.weight", &[width, 2 * inner], 0.0, 0.3)?;
        layer.add("ssm_conv1d.weight", &[KERNEL.into(), inner], 0.0, 0.5)?;
        layer.add("ssm_conv1d.bias", &[inner], 0.0, 0.2)?;
        layer.add("ssm_x.weight", &[inner, rank + 2 * state], 0.0, 0.5)?;
        layer.add("ssm_dt.weight", &[rank, inner], 0.0, 0.1)?;
        // Short steps in time and slow decay: what was read hundreds of tokens ago still counts.
        layer.add("ssm_dt.bias", &[inner], -5.0, 0.5)?;
        layer.add("ssm_a", &[state, inner], -0.6, 0.5)?;
        layer.add("ssm_d", &[inner], 0.0, 0.3)?;
        layer.add("ssm_out.weight", &[inner, width], 0.0, 0.5)?;
        if self == Self::Jamba {
            layer.add("ssm_dt_norm.weight", &[rank], 1.0, 0.2)?;
            layer.add("ssm_b_norm.weight", &[state], 4.0, 0.2)?;
            layer.add("ssm_c_norm.weight", &[state], 4.0, 0.2)?;
        }
        Ok(())
    }
}

/// Every byte is a token, in GPT-2's spelling.
pub(super) fn vocabulary(writer: &mut GgufWriter, marks: &Marks<'_>) -> Vec<String> {
    /// GGUF's numbers for kinds of tokens.
    const NORMAL: i32 = 1;
    const CONTROL: i32 = 3;
    const DEFINED_BY_USER: i32 = 4;
    let mut tokens: Vec<String> = Vec::new();
    let mut kinds = Vec::new();
    for (spellings, kind) in [(marks.controls, CONTROL), (marks.defined, DEFINED_BY_USER)] {
        tokens.extend(spellings.iter().map(|&spelling| spelling.to_owned()));
        kinds.extend(spellings.iter().map(|_| kind));
    }
    // Bytes that are no visible characters are spelled as characters that no byte is.
    let mut others = '\u{100}'..;
    tokens.extend((0..=u8::MAX).map(|byte| {
        let is_seen = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        let other = if is_seen { None } else { others.next() };
        other.unwrap_or(char::from(byte)).to_string()
    }));
    // The format wants at least one merge.
    let merge = ["\u{120}", "t"];
    tokens.push(merge.concat());
    kinds.resize(tokens.len(), NORMAL);
    let text = |text: &str| Value::Text(text.to_owned());
    writer.set("tokenizer.ggml.model", text("gpt2"));
    writer.set("tokenizer.ggml.pre", text("gpt-2"));
    writer.set("tokenizer.ggml.tokens", Value::Texts(tokens.clone()));
    writer.set("tokenizer.ggml.token_type", Value::I32s(kinds));
    let merges = Value::Texts(vec![merge.join(" ")]);
    writer.set("tokenizer.ggml.merges", merges);
    writer.set("tokenizer.ggml.bos_token_id", Value::U32(1));
    writer.set("tokenizer.ggml.eos_token_id", Value::U32(2));
    writer.set("tokenizer.ggml.add_bos_token", Value::Bool(false));
    tokens
}

/// A file under construction, and where its numbers come from.
struct Weights {
    writer: GgufWriter,
    draw: Draw,
}

impl Weights {
    fn add(
        &mut self,
        name: &str,
        shape: &[u64],
        around: f32,
        spread: f32,
    ) -> Result<(), ShapeMismatch> {
        let values = self.draw.values(shape.iter().product(), around, spread);
        self.writer.tensor(name, shape, values)
    }
}

/// One layer of it.
struct Layer<'w> {
    weights: &'w mut Weights,
    number: u32,
}

impl Layer<'_> {
    fn add(
        &mut self,
        part: &str,
        shape: &[u64],
        around: f32,
        spread: f32,
    ) -> Result<(), ShapeMismatch> {
        let name = format!("blk.{}.{part}", self.number);
        self.weights.add(&name, shape, around, spread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_spelling_of_its_own() {
        let marks = Marks::CHATML;
        let tokens = vocabulary(&mut GgufWriter::default(), &marks);
        let count = marks.controls.len() + marks.defined.len();
        let bytes = tokens.iter().skip(count);
        let spellings: std::collections::BTreeSet<&String> = bytes.take(256).collect();
        assert_eq!(spellings.len(), 256);
        // As in the vocabularies that are published: a space and a line feed.
        for (byte, spelling) in [(b' ', "\u{120}"), (b'\n', "\u{10a}"), (b'a', "a")] {
            let place = count + usize::from(byte);
            assert_eq!(tokens[place], spelling);
        }
    }

    #[test]
    fn a_mark_has_its_place_in_the_vocabulary_as_its_id() {
        let marks = Marks::CHATML;
        let tokens = vocabulary(&mut GgufWriter::default(), &marks);
        for mark in ["<|im_end|>", "</think>"] {
            let id = marks.id(mark).and_then(|id| usize::try_from(id).ok());
            assert_eq!(tokens[id.expect("a mark")], mark);
        }
        assert_eq!(marks.id("a"), None);
    }

    #[test]
    fn all_kinds_are_written() {
        for kind in [Language::Llama, Language::Mamba, Language::Jamba] {
            let make = |seed| kind.write(seed).expect("fits").to_bytes();
            assert_eq!(make(1), make(1));
            assert_ne!(make(1), make(2));
        }
    }
}
