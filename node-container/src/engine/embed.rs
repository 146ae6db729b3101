//! Vectors and how they travel: one line of an answer for each input (`protocol::embed`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::limits::ANSWER_BYTES_MAX;
use protocol::{Answer, ErrorCode, Failure};

/// How the vectors of a text's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// That of the first token, which stands for the whole.
    Cls,
    /// That of the last token.
    Last,
}

impl Pooling {
    /// By GGUF's number for it (`pooling_type`). Others make no vector of a text.
    pub fn of_number(number: &str) -> Option<Self> {
        match number {
            "1" => Some(Self::Mean),
            "2" => Some(Self::Cls),
            "3" => Some(Self::Last),
            _ => None,
        }
    }
}

/// The line of a vector: its first numbers, as many as are wanted, scaled to length 1. `None` for a vector that has no
/// direction.
pub fn line(vector: &[f32], dimensions: Option<u32>) -> Option<String> {
    let wanted = dimensions.and_then(|count| usize::try_from(count).ok());
    let vector = vector.get(..wanted.unwrap_or(vector.len()))?;
    let squares = vector.iter().map(|number| f64::from(*number).powi(2));
    let length = squares.sum::<f64>().sqrt();
    if !length.is_normal() {
        return None;
    }
    let mut bytes = Vec::with_capacity(size_of_val(vector));
    for number in vector {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "what is left out of 64 bits is beyond the numbers' own precision"
        )]
        let scaled = (f64::from(*number) / length) as f32;
        bytes.extend(scaled.to_le_bytes());
    }
    let mut line = STANDARD.encode(bytes);
    line.push('\n');
    Some(line)
}

/// Bytes of a line that [`line()`] makes of so many numbers: base64 of four bytes each, and the end of the line.
const fn line_bytes(dimensions: usize) -> usize {
    let letters = dimensions.saturating_mul(4).div_ceil(3).saturating_mul(4);
    letters.saturating_add(1)
}

/// Whether the vectors of so many inputs, with so many numbers each, fit an answer: no node keeps more than
/// [`ANSWER_BYTES_MAX`] of one, and no relay carries it.
pub fn check_size(inputs: usize, dimensions: usize) -> Result<(), Failure> {
    let most = usize::try_from(ANSWER_BYTES_MAX).unwrap_or(usize::MAX);
    let line = line_bytes(dimensions);
    let bytes = inputs.saturating_mul(line);
    if bytes <= most {
        return Ok(());
    }
    let message = format!(
        "{inputs} inputs with {dimensions} numbers each make an answer of {bytes} bytes, but at most {most} are taken; send at most {} inputs at once, or ask for fewer dimensions",
        most / line
    );
    Err(Failure::new(ErrorCode::InvalidRequest, message).with_param("input"))
}

/// What a client has of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Begun {
    /// Whole lines: so many inputs are done.
    pub lines: usize,
    /// The beginning of the next one.
    pub part: String,
}

impl Begun {
    /// Reads what was given.
    pub fn of(answer: &Answer) -> Self {
        let text: String = answer
            .pieces
            .iter()
            .filter(|piece| piece.kind.delta().is_some())
            .map(|piece| piece.text.as_str())
            .collect();
        let part = text.rsplit('\n').next().unwrap_or_default();
        Self {
            lines: text.matches('\n').count(),
            part: part.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{DeltaKind, Transcript};

    fn numbers(line: &str) -> Vec<f32> {
        let bytes = STANDARD
            .decode(line.strip_suffix('\n').expect("a line"))
            .expect("base64");
        let (floats, rest) = bytes.as_chunks::<4>();
        assert!(rest.is_empty());
        floats
            .iter()
            .map(|float| f32::from_le_bytes(*float))
            .collect()
    }

    #[test]
    fn vectors_have_length_one_however_many_numbers_are_wanted() {
        let vector = [3.0, 4.0, 12.0];
        let whole = numbers(&line(&vector, None).expect("a direction"));
        assert_eq!(whole, [3.0 / 13.0, 4.0 / 13.0, 12.0 / 13.0]);
        let short = numbers(&line(&vector, Some(2)).expect("a direction"));
        assert_eq!(short, [0.6, 0.8]);
    }

    #[test]
    fn what_has_no_direction_is_no_vector() {
        assert_eq!(line(&[0.0, 0.0], None), None);
        assert_eq!(line(&[f32::NAN, 1.0], None), None);
        assert_eq!(line(&[f32::INFINITY, 1.0], None), None);
        assert_eq!(line(&[1.0], Some(2)), None, "more than there are");
    }

    #[test]
    fn what_would_be_too_long_an_answer_is_refused_with_what_would_not() {
        for dimensions in [1, 2, 3, 384, 4095, 4096] {
            let line = line(&vec![1.0; dimensions], None).expect("a direction");
            assert_eq!(line.len(), line_bytes(dimensions));
        }
        assert_eq!(check_size(2048, 384), Ok(()));
        assert_eq!(check_size(767, 4096), Ok(()));
        let failure = check_size(2048, 4096).expect_err("45 MB");
        assert_eq!(failure.code, ErrorCode::InvalidRequest);
        assert_eq!(failure.param.as_deref(), Some("input"));
        for number in ["2048", "4096", "44746752", "16777216", "767"] {
            assert!(failure.message.contains(number), "{failure}");
        }
        assert!(check_size(768, 4096).is_err());
        assert!(check_size(usize::MAX, usize::MAX).is_err());
    }

    #[test]
    fn whole_lines_are_counted_and_the_beginning_of_one_is_kept() {
        let begun = |text: &str| {
            let mut transcript = Transcript::default();
            transcript.push(DeltaKind::Text, std::iter::empty(), text.as_bytes());
            let answer = transcript.answer(None);
            let begun = answer.as_ref().map(Begun::of).unwrap_or_default();
            (begun.lines, begun.part)
        };
        assert_eq!(begun(""), (0, String::new()));
        assert_eq!(begun("abc"), (0, "abc".to_owned()));
        assert_eq!(begun("abc\n"), (1, String::new()));
        assert_eq!(begun("abc\nde\nf"), (2, "f".to_owned()));
    }
}
