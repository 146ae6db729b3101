//! How a fake answer should come. The order travels in the prompt, so it passes every relay that forwards prompts.

/// What a prompt orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directive {
    /// How many tokens.
    pub tokens: u32,
    /// Microseconds between two of them; 0 means as fast as they are taken.
    pub interval_us: u64,
}

const OPENING: &str = "[[bench n=";

impl Directive {
    /// The prompt that orders this.
    pub fn prompt(&self) -> String {
        format!("{OPENING}{} iv={}]] hello", self.tokens, self.interval_us)
    }

    /// Finds an order anywhere in a text.
    pub fn find(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once(OPENING)?;
        let (order, _) = rest.split_once("]]")?;
        let (tokens, interval_us) = order.split_once(" iv=")?;
        Some(Self {
            tokens: tokens.parse().ok()?,
            interval_us: interval_us.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_survives_the_prompt() {
        let directive = Directive {
            tokens: 7,
            interval_us: 20_000,
        };
        let body = format!(r#"{{"content":"{}"}}"#, directive.prompt());
        assert_eq!(Directive::find(&body), Some(directive));
        assert_eq!(Directive::find("[[bench n=x iv=2]]"), None);
    }
}
