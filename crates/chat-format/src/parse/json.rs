//! Where a JSON value ends, and whether it is one, character by character (RFC 8259).

/// Levels of arrays and objects; a deeper value counts as broken.
const DEPTH_MAX: u32 = 128;

/// What a character did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scan {
    /// The value goes on.
    More,
    /// This was its last character.
    Done,
    /// It had ended before this character (a number).
    Before,
    /// This can be no JSON.
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Value,
    /// A value, or the end of an array.
    FirstItem,
    /// A key, or the end of an object.
    FirstKey,
    Key,
    Colon,
    AfterValue,
    String {
        is_key: bool,
    },
    Escape {
        is_key: bool,
    },
    Hex {
        is_key: bool,
        left: u8,
    },
    Literal(&'static str),
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

/// Reads one value.
#[derive(Debug, Clone, Default)]
pub(super) struct JsonScanner {
    state: State,
    /// One bit a level, the innermost lowest: whether it is an object.
    levels: u128,
    depth: u32,
}

/// JSON's white space.
pub(super) const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

impl JsonScanner {
    /// Whether `text` is one whole object, and nothing more.
    pub(super) fn is_object(text: &str) -> bool {
        let mut scanner = Self::default();
        let mut chars = text.chars();
        text.starts_with('{')
            && chars
                .find_map(|c| match scanner.push(c) {
                    Scan::More => None,
                    end @ (Scan::Done | Scan::Before | Scan::Broken) => Some(end),
                })
                .is_some_and(|end| end == Scan::Done)
            && chars.next().is_none()
    }

    /// Takes the next character.
    pub(super) fn push(&mut self, c: char) -> Scan {
        match self.state {
            State::Value | State::FirstItem | State::FirstKey | State::Key | State::Colon
                if is_blank(c) =>
            {
                Scan::More
            }
            State::FirstItem if c == ']' => self.close(false),
            State::Value | State::FirstItem => self.begin(c),
            State::FirstKey if c == '}' => self.close(true),
            State::FirstKey | State::Key => self.go_if(c == '"', State::String { is_key: true }),
            State::Colon => self.go_if(c == ':', State::Value),
            State::AfterValue => self.after_value(c),
            State::String { is_key } => match c {
                '"' if is_key => self.go(State::Colon),
                '"' => self.ended(),
                '\\' => self.go(State::Escape { is_key }),
                _ => self.go_if(c >= ' ', self.state),
            },
            State::Escape { is_key } if c == 'u' => self.go(State::Hex { is_key, left: 4 }),
            State::Escape { is_key } => {
                self.go_if("\"\\/bfnrt".contains(c), State::String { is_key })
            }
            State::Hex { is_key, left } => {
                let next = match left {
                    0 | 1 => State::String { is_key },
                    _ => State::Hex {
                        is_key,
                        left: left - 1,
                    },
                };
                self.go_if(c.is_ascii_hexdigit(), next)
            }
            State::Literal(rest) => match rest.strip_prefix(c) {
                Some("") => self.ended(),
                Some(rest) => self.go(State::Literal(rest)),
                None => Scan::Broken,
            },
            State::Minus
            | State::Zero
            | State::Integer
            | State::Point
            | State::Fraction
            | State::Exponent
            | State::ExponentSign
            | State::ExponentDigits => self.number(c),
        }
    }

    fn go(&mut self, state: State) -> Scan {
        self.state = state;
        Scan::More
    }

    fn go_if(&mut self, is_right: bool, state: State) -> Scan {
        if is_right {
            self.go(state)
        } else {
            Scan::Broken
        }
    }

    fn begin(&mut self, c: char) -> Scan {
        match c {
            '{' => self.open(true, State::FirstKey),
            '[' => self.open(false, State::FirstItem),
            '"' => self.go(State::String { is_key: false }),
            '-' => self.go(State::Minus),
            '0' => self.go(State::Zero),
            '1'..='9' => self.go(State::Integer),
            't' => self.go(State::Literal("rue")),
            'f' => self.go(State::Literal("alse")),
            'n' => self.go(State::Literal("ull")),
            _ => Scan::Broken,
        }
    }

    fn open(&mut self, is_object: bool, state: State) -> Scan {
        if self.depth >= DEPTH_MAX {
            return Scan::Broken;
        }
        self.depth += 1;
        self.levels = (self.levels << 1) | u128::from(is_object);
        self.go(state)
    }

    fn close(&mut self, is_object: bool) -> Scan {
        if self.depth == 0 || (self.levels & 1 == 1) != is_object {
            return Scan::Broken;
        }
        self.depth -= 1;
        self.levels >>= 1;
        self.ended()
    }

    fn ended(&mut self) -> Scan {
        self.state = State::AfterValue;
        if self.depth == 0 {
            Scan::Done
        } else {
            Scan::More
        }
    }

    fn after_value(&mut self, c: char) -> Scan {
        let is_object = self.levels & 1 == 1;
        match c {
            _ if self.depth == 0 => Scan::Broken,
            _ if is_blank(c) => Scan::More,
            ',' if is_object => self.go(State::Key),
            ',' => self.go(State::Value),
            '}' => self.close(true),
            ']' => self.close(false),
            _ => Scan::Broken,
        }
    }

    fn number(&mut self, c: char) -> Scan {
        let is_digit = c.is_ascii_digit();
        let is_exponent = matches!(c, 'e' | 'E');
        let next = match self.state {
            State::Minus if c == '0' => Some(State::Zero),
            State::Minus | State::Integer if is_digit => Some(State::Integer),
            State::Zero | State::Integer if c == '.' => Some(State::Point),
            State::Zero | State::Integer | State::Fraction if is_exponent => Some(State::Exponent),
            State::Point | State::Fraction if is_digit => Some(State::Fraction),
            State::Exponent if matches!(c, '+' | '-') => Some(State::ExponentSign),
            State::Exponent | State::ExponentSign | State::ExponentDigits if is_digit => {
                Some(State::ExponentDigits)
            }
            State::Zero | State::Integer | State::Fraction | State::ExponentDigits => None,
            State::Value
            | State::FirstItem
            | State::FirstKey
            | State::Key
            | State::Colon
            | State::AfterValue
            | State::String { .. }
            | State::Escape { .. }
            | State::Hex { .. }
            | State::Literal(_)
            | State::Minus
            | State::Point
            | State::Exponent
            | State::ExponentSign => return Scan::Broken,
        };
        match next {
            Some(next) => self.go(next),
            None if self.depth == 0 => {
                self.state = State::AfterValue;
                Scan::Before
            }
            None => {
                self.state = State::AfterValue;
                self.after_value(c)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_json_is_seen_at_its_first_wrong_character() {
        // A selection of what https://github.com/nst/JSONTestSuite (test_parsing, n_*) holds.
        for (text, wrong) in [
            ("{\"a\":01}", 6),
            ("{\"a\":-}", 6),
            ("{\"a\":1.}", 7),
            ("{\"a\":1e}", 7),
            ("{\"a\":.5}", 5),
            ("{\"a\":\"\n\"}", 6),
            ("{\"a\":\"\\x\"}", 7),
            ("{\"a\":\"\\u12g4\"}", 10),
            ("{\"a\" 1}", 5),
            ("{\"a\":1,}", 7),
            ("{a:1}", 1),
            ("{'a':1}", 1),
            ("{\"a\":[1,]}", 8),
            ("{\"a\":[1}}", 7),
            ("{\"a\":nul}", 8),
            ("{\"a\":True}", 5),
        ] {
            let mut scanner = JsonScanner::default();
            let at = text.chars().position(|c| scanner.push(c) == Scan::Broken);
            assert_eq!(at, Some(wrong), "{text}");
        }
    }

    #[test]
    fn a_number_ends_before_what_follows() {
        let mut scanner = JsonScanner::default();
        let scans: Vec<_> = "-1.5e+3,".chars().map(|c| scanner.push(c)).collect();
        assert_eq!(scans[..7], [Scan::More; 7]);
        assert_eq!(scans[7], Scan::Before);
    }

    #[test]
    fn depth_is_bounded() {
        assert!(JsonScanner::is_object(&format!(
            "{{\"a\":{}{}}}",
            "[".repeat(127),
            "]".repeat(127)
        )));
        assert!(!JsonScanner::is_object(&format!(
            "{{\"a\":{}{}}}",
            "[".repeat(128),
            "]".repeat(128)
        )));
    }

    pub(crate) fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "\\PC{0,8}|[\"\\\\\n{}\\[\\]]{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::vec(("[a-z\"\\\\]{0,3}", inner), 0..4)
                    .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_serde_writes_is_one_value(value in json(), is_pretty in any::<bool>()) {
            let value = serde_json::json!({"value": value});
            let text = if is_pretty {
                serde_json::to_string_pretty(&value).expect("JSON")
            } else {
                value.to_string()
            };
            prop_assert!(JsonScanner::is_object(&text));
        }

        #[test]
        fn it_agrees_with_serde_on_damaged_texts(value in json(), at in any::<prop::sample::Index>(), put in "[\\]\\[{},:\"0-9.eE+\\- tfn\\\\u]") {
            let text = serde_json::json!({"v": value}).to_string();
            let mut chars: Vec<char> = text.chars().collect();
            let at = at.index(chars.len());
            chars[at] = put.chars().next().unwrap();
            let damaged: String = chars.into_iter().collect();
            // serde takes white space around a value, refuses half surrogates and numbers beyond a float: not asked here.
            let is_huge = |exponent: &str| {
                let digits = exponent.trim_start_matches(['+', '-']).chars();
                digits.take_while(char::is_ascii_digit).count() > 2
            };
            prop_assume!(!damaged.contains("\\u") && !damaged.split(['e', 'E']).skip(1).any(is_huge));
            let is_json = serde_json::from_str::<serde_json::Map<_, _>>(&damaged).is_ok();
            prop_assume!(damaged.trim() == damaged);
            prop_assert_eq!(JsonScanner::is_object(&damaged), is_json, "{}", damaged);
        }
    }
}
