//! Users: many chats at once, over HTTP, over a `WebSocket`, or frames through an echo.

mod echo;
mod http;
mod socket;

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{sleep, timeout};

use crate::directive::Directive;
use crate::report::{Outcome, Run};
use crate::stamp::now_ns;
use crate::usage;

/// How users reach what is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Users {
    /// `POST /v1/chat/completions`, streamed; a new connection for each chat.
    Http,
    /// `/client`, a socket for each chat, connected before the clock starts.
    Socket,
    /// No chats: frames of 40 bytes into one socket of an echo, out of another.
    Echo,
    /// The same with two sockets for each chat, as nodes and users have.
    EchoPairs,
}

/// What to run.
#[derive(Debug, Clone, clap::Args)]
pub struct Load {
    /// Host and port on loopback.
    #[arg(long)]
    pub address: String,
    /// How users come.
    #[arg(long, value_enum)]
    pub users: Users,
    /// Chats at once.
    #[arg(long)]
    pub chats: u32,
    /// Tokens of each chat.
    #[arg(long)]
    pub tokens: u32,
    /// Microseconds between two tokens; 0 means flat out.
    #[arg(long, default_value_t = 0)]
    pub interval_us: u64,
    /// The chats begin over this time.
    #[arg(long, default_value_t = 0)]
    pub ramp_ms: u64,
    /// A chat that takes longer is given up.
    #[arg(long, default_value_t = 60)]
    pub patience_s: u64,
    /// What the users ask for.
    #[arg(long, default_value = "mock")]
    pub model: String,
    /// The users' key.
    #[arg(
        long,
        env = "HELIOGRAPH_API_KEY",
        default_value = "sk-bench",
        hide_env_values = true
    )]
    pub key: String,
    /// The process whose cost, with that of its children, is charged to the tokens.
    #[arg(long)]
    pub pid: Option<u32>,
}

impl Load {
    fn directive(&self) -> Directive {
        Directive {
            tokens: self.tokens,
            interval_us: self.interval_us,
        }
    }

    /// When the chat of this number begins.
    fn delay(&self, chat: u32) -> Duration {
        Duration::from_micros(self.ramp_ms * 1000 * u64::from(chat) / u64::from(self.chats.max(1)))
    }

    /// Runs it.
    pub async fn run(self) -> Result<Run> {
        if !self.address.starts_with("127.") {
            bail!("loopback only: a latency is a subtraction of one machine's clock");
        }
        match self.users {
            Users::Echo => echo::run(&self, 1).await,
            Users::EchoPairs => echo::run(&self, self.chats).await,
            Users::Http => {
                let chats = vec![(); self.chats as usize];
                self.chats(chats, async |load, (), outcome| {
                    http::chat(&load, outcome).await
                })
                .await
            }
            Users::Socket => {
                let mut sockets = Vec::new();
                for _ in 0..self.chats {
                    sockets.push(socket::Socket::connect(&self).await?);
                }
                self.chats(sockets, async |load, mut socket, outcome| {
                    let result = socket.chat(&load, outcome).await;
                    (socket, result).1
                })
                .await
            }
        }
    }

    async fn chats<C: 'static, F>(self, connections: Vec<C>, chat: F) -> Result<Run>
    where
        F: AsyncFn(Self, C, &mut Outcome) -> Result<()> + Copy + 'static,
    {
        let meter = Meter::start(self.pid);
        let began_ns = now_ns();
        let tasks = tokio::task::LocalSet::new();
        let mut chats = Vec::new();
        for (number, connection) in (0..).zip(connections) {
            let load = self.clone();
            chats.push(tasks.spawn_local(async move {
                sleep(load.delay(number)).await;
                let mut outcome = Outcome::expecting(load.tokens);
                let patience = Duration::from_secs(load.patience_s);
                let result = timeout(patience, chat(load, connection, &mut outcome)).await;
                outcome.error = match result {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(format!("{error:#}")),
                    Err(_) => Some("out of patience".to_owned()),
                };
                outcome
            }));
        }
        let mut outcomes = Vec::new();
        tasks
            .run_until(async {
                for chat in chats {
                    outcomes.push(chat.await?);
                }
                anyhow::Ok(())
            })
            .await?;
        Ok(Run {
            began_ns,
            tokens_each: self.tokens,
            usage: meter.stop(),
            outcomes,
        })
    }
}

/// What the process under test costs between two moments.
struct Meter {
    pids: Vec<u32>,
    before: usage::Usage,
}

impl Meter {
    fn start(pid: Option<u32>) -> Self {
        let pids = pid.map(usage::tree).unwrap_or_default();
        usage::forget_peak(&pids);
        let before = usage::of(&pids);
        Self { pids, before }
    }

    fn stop(self) -> Option<usage::Usage> {
        let after = usage::of(&self.pids);
        (!self.pids.is_empty()).then(|| usage::Usage {
            cpu_ns: after.cpu_ns.saturating_sub(self.before.cpu_ns),
            peak_kib: after.peak_kib,
        })
    }
}
