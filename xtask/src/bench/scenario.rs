//! How many chats, how long, how fast. The same names and numbers as in other relays' benchmarks.

/// One way to load a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "UPPER")]
pub(crate) enum Scenario {
    /// One chat: the latency of an idle relay
    S1,
    /// 50 chats at 50 tokens/s each
    S2,
    /// 50 chats flat out
    S3,
    /// The same ten times as long, to time fast relays
    S3L,
    /// 200 chats at 20 tokens/s each
    S4,
}

impl Scenario {
    /// All of them.
    pub(super) const ALL: [Self; 5] = [Self::S1, Self::S2, Self::S3, Self::S3L, Self::S4];

    /// Its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::S1 => "S1",
            Self::S2 => "S2",
            Self::S3 => "S3",
            Self::S3L => "S3L",
            Self::S4 => "S4",
        }
    }

    /// Chats at once.
    pub(super) const fn chats(self) -> u32 {
        match self {
            Self::S1 => 1,
            Self::S2 | Self::S3 | Self::S3L => 50,
            Self::S4 => 200,
        }
    }

    /// Tokens of each chat.
    const fn tokens(self) -> u32 {
        match self {
            Self::S1 | Self::S2 => 200,
            Self::S3 => 500,
            Self::S3L => 5_000,
            Self::S4 => 100,
        }
    }

    /// Microseconds between two tokens of a chat; 0 means flat out.
    const fn interval_us(self) -> u32 {
        match self {
            Self::S1 | Self::S2 => 20_000,
            Self::S3 | Self::S3L => 0,
            Self::S4 => 50_000,
        }
    }

    /// The chats begin over this time.
    const fn ramp_ms(self) -> u32 {
        match self {
            Self::S2 | Self::S4 => 500,
            Self::S1 | Self::S3 | Self::S3L => 0,
        }
    }

    /// Whether throughput is what counts; latency is queueing then.
    pub(super) const fn is_flat_out(self) -> bool {
        self.interval_us() == 0
    }

    /// Arguments of the load client.
    pub(super) fn arguments(self) -> Vec<String> {
        let pairs = [
            ("--chats", self.chats()),
            ("--tokens", self.tokens()),
            ("--interval-us", self.interval_us()),
            ("--ramp-ms", self.ramp_ms()),
        ];
        let words = pairs
            .iter()
            .flat_map(|(name, value)| [(*name).to_owned(), value.to_string()]);
        words.collect()
    }

    /// One line for people.
    pub(super) fn sentence(self) -> String {
        let (chats, tokens, interval) = (self.chats(), self.tokens(), self.interval_us() / 1000);
        let pace = if self.is_flat_out() {
            "flat out".to_owned()
        } else {
            format!("one each {interval} ms")
        };
        format!(
            "{}: {chats} chats, {tokens} tokens each, {pace}",
            self.name()
        )
    }
}
