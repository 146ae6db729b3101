//! Which prompts a step reads, where several wait.
//!
//! One half of a step's tokens goes to the prompt that has the least left, the rest to the oldest ones. So prompts that
//! come together are read one after another and not all at once, which halves the wait for their first tokens; a short
//! one does not wait for a long one; and the oldest always gets on. What a prompt cannot take, for it stands before a
//! picture, which goes by itself, is left to the others.

/// A prompt that is being read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prompt {
    /// In which place of the engine its slot is.
    pub(super) place: usize,
    /// The lower, the older.
    pub(super) number: u64,
    /// Tokens that are not read yet.
    pub(super) unread: usize,
    /// How many of them could be read now.
    pub(super) readable: usize,
    /// Tokens that the next step reads.
    pub(super) share: usize,
}

impl Prompt {
    fn take(&mut self, tokens: usize) -> usize {
        let taken = tokens.min(self.readable.saturating_sub(self.share));
        self.share += taken;
        taken
    }
}

/// Divides `tokens` among `prompts`, and leaves these in the order of age.
pub(super) fn divide(tokens: usize, prompts: &mut [Prompt]) {
    prompts.sort_unstable_by_key(|prompt| prompt.number);
    let mut left = tokens;
    // Of equals the oldest, which comes first.
    if let Some(shortest) = prompts.iter_mut().min_by_key(|prompt| prompt.unread) {
        left -= shortest.take(tokens / 2);
    }
    for prompt in prompts {
        left -= prompt.take(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares_of(tokens: usize, prompts: impl IntoIterator<Item = (usize, usize)>) -> Vec<usize> {
        let mut prompts: Vec<Prompt> = (0u64..)
            .zip(prompts)
            .map(|(number, (unread, readable))| Prompt {
                place: 0,
                number,
                unread,
                readable,
                share: 0,
            })
            .collect();
        prompts.reverse();
        divide(tokens, &mut prompts);
        prompts.iter().map(|prompt| prompt.share).collect()
    }

    fn shares(tokens: usize, unread: &[usize]) -> Vec<usize> {
        shares_of(tokens, unread.iter().map(|unread| (*unread, *unread)))
    }

    #[test]
    fn equal_prompts_are_read_one_after_another() {
        assert_eq!(shares(64, &[500, 500, 500]), [64, 0, 0]);
        assert_eq!(shares(64, &[20, 500, 500]), [20, 44, 0]);
    }

    #[test]
    fn a_short_prompt_does_not_wait_for_a_long_one() {
        assert_eq!(shares(64, &[4000, 100]), [32, 32]);
        assert_eq!(shares(64, &[4000, 10]), [54, 10]);
    }

    #[test]
    fn the_oldest_always_gets_on() {
        assert_eq!(shares(64, &[4000, 3000, 100, 100]), [32, 0, 32, 0]);
        assert_eq!(shares(1, &[4000, 3]), [1, 0]);
    }

    #[test]
    fn no_prompt_gets_more_than_it_has() {
        assert_eq!(shares(64, &[3, 2]), [3, 2]);
        assert_eq!(shares(64, &[]), [0usize; 0]);
    }

    #[test]
    fn what_a_prompt_before_a_picture_cannot_take_goes_to_the_others() {
        assert_eq!(shares_of(64, [(500, 4), (500, 500)]), [4, 60]);
        assert_eq!(shares_of(64, [(500, 500), (20, 3)]), [61, 3]);
        assert_eq!(shares_of(64, [(500, 0), (20, 0), (500, 500)]), [0, 0, 64]);
    }
}
