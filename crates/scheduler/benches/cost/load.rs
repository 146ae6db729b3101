//! A pool with nodes that answer and clients that ask, without any socket.

use std::collections::{BTreeMap, VecDeque};

use protocol::{
    Alias, Capabilities, ChatMessage, ChatRequest, ClientToRelay, DeltaKind, FinishReason, JobId,
    ModelOffer, NodeClass, NodeToRelay, RelayToNode, Role, TokenFrameWriter, Usage,
};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scheduler::{Config, Input, ModelEntry, NodeHello, Output, Scheduler, Secret, SocketId};

use crate::memory::in_use;
use crate::times::{Summary, Times};

const MODEL: &str = "nimbus-8b";
/// Token frames of one answer.
const FRAMES: u32 = 4;
const CLIENTS: u32 = 1_000;
/// Jobs that wait where all nodes are busy.
const WAITING: u32 = 1_000;
/// Jobs whose memory in the queue is measured.
const JOBS_MEASURED: u32 = 100_000;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// Sockets of clients count from here.
const FIRST_CLIENT: u32 = 1 << 30;

/// What one number of nodes cost.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) nodes: u32,
    pub(crate) jobs: u32,
    pub(crate) node_bytes: usize,
    pub(crate) placed: Summary,
    pub(crate) dequeued: Summary,
    pub(crate) queued: Summary,
    pub(crate) token_frame: Summary,
}

/// What a waiting job takes.
#[derive(Debug)]
pub(crate) struct WaitingBytes {
    pub(crate) all: usize,
    pub(crate) request: usize,
}

/// One attempt under way.
#[derive(Debug, Clone, Copy)]
struct Running {
    job: JobId,
    alias: Alias,
    node: SocketId,
    client: SocketId,
}

/// A pool and who is connected to it.
pub(crate) struct Load {
    scheduler: Scheduler,
    rng: ChaCha8Rng,
    now: u64,
    running: Vec<Running>,
    /// What was assigned since the last look.
    assigned: VecDeque<(JobId, Alias, SocketId)>,
    asked: u64,
    owners: BTreeMap<JobId, SocketId>,
}

fn config() -> Config {
    Config {
        models: vec![ModelEntry {
            id: MODEL.into(),
            class: NodeClass::Rig,
            context_tokens: 8_192,
        }],
        // Bounds that this pool is beyond: what is measured is the cost with so many, not their refusal.
        queue_jobs_max: usize::MAX,
        queue_jobs_max_per_model: usize::MAX,
        queue_jobs_max_per_account: usize::MAX,
        jobs_per_client_max: usize::MAX,
        content_bytes_max: usize::MAX,
        frames_per_second_max: u32::MAX,
        // The nodes answer in no order: a few of them very late.
        lease_ms: DAY_MS,
        node_silent_ms_max: DAY_MS,
        secrets: vec![Secret([7; 32])],
        ..Config::default()
    }
}

fn request(number: u64) -> ChatRequest {
    ChatRequest {
        messages: vec![ChatMessage {
            role: Role::User,
            content: format!("Question {number}: what are the three primary colours, and why?"),
            ..ChatMessage::default()
        }],
        ..ChatRequest::default()
    }
}

impl Load {
    fn new() -> Self {
        Self {
            scheduler: Scheduler::new(config(), [1; 32], 0),
            rng: ChaCha8Rng::from_seed([2; 32]),
            now: 0,
            running: Vec::new(),
            assigned: VecDeque::new(),
            asked: 0,
            owners: BTreeMap::new(),
        }
    }

    /// Drives both pools.
    pub(crate) fn measure(nodes: u32, jobs: u32) -> Measured {
        let mut token_frame = Times::default();
        let mut half_busy = Self::new();
        let node_bytes = half_busy.join_nodes(nodes);
        half_busy.join_clients();
        for _ in 0..nodes / 2 {
            half_busy.submit(&mut Times::default());
        }
        let mut placed = Times::default();
        for _ in 0..jobs / 2 {
            half_busy.answer(&mut Times::default(), &mut token_frame);
            half_busy.submit(&mut placed);
        }
        drop(half_busy);
        let mut busy = Self::new();
        busy.join_nodes(nodes);
        busy.join_clients();
        for _ in 0..nodes + WAITING {
            busy.submit(&mut Times::default());
        }
        let (mut dequeued, mut queued) = (Times::default(), Times::default());
        for _ in 0..jobs / 2 {
            busy.answer(&mut dequeued, &mut token_frame);
            busy.submit(&mut queued);
        }
        Measured {
            nodes,
            jobs,
            node_bytes,
            placed: placed.summary(),
            dequeued: dequeued.summary(),
            queued: queued.summary(),
            token_frame: token_frame.summary(),
        }
    }

    /// What each took.
    fn join_nodes(&mut self, nodes: u32) -> usize {
        let before = in_use();
        for number in 0..nodes {
            self.input(Input::NodeJoined {
                socket: SocketId(number),
                account: format!("account-{}", number % 10_000),
                hello: NodeHello {
                    name: format!("rig-{number}"),
                    class: NodeClass::Rig,
                    software: "bench 1".into(),
                    slots: 1,
                    models: vec![ModelOffer {
                        model: MODEL.into(),
                        runtime: "llama.cpp".into(),
                        context_tokens: 8_192,
                        capabilities: Capabilities::default(),
                        measured: None,
                    }],
                    announces: 0,
                },
            });
        }
        (in_use() - before) / nodes.max(1) as usize
    }

    fn join_clients(&mut self) {
        for number in 0..CLIENTS {
            self.input(Input::ClientJoined {
                socket: SocketId(FIRST_CLIENT + number),
                account: format!("user-{number}"),
            });
        }
    }

    /// Somebody asks.
    fn submit(&mut self, times: &mut Times) {
        self.asked += 1;
        let mut id = [0; 16];
        self.rng.fill_bytes(&mut id);
        let client = FIRST_CLIENT + self.rng.random_range(0..CLIENTS);
        let (client, job) = (SocketId(client), JobId::from_random(id));
        self.owners.insert(job, client);
        let input = Input::ClientSaid {
            socket: client,
            message: ClientToRelay::Submit {
                job,
                model: MODEL.into(),
                request: request(self.asked).into(),
            },
            bytes: 200,
        };
        times.take(|| self.input(input));
        self.accept();
    }

    /// Some node answers one of those that run.
    fn answer(&mut self, end: &mut Times, frames: &mut Times) {
        let index = self.rng.random_range(0..self.running.len());
        let Running {
            job,
            alias,
            node,
            client,
        } = self.running.swap_remove(index);
        for number in 0..FRAMES {
            let mut writer = TokenFrameWriter::new();
            writer.push(alias, number * 4, DeltaKind::Text, &[number], b"text");
            let frame = writer.finish();
            frames.take(|| {
                self.input(Input::NodeTokens {
                    socket: node,
                    frame: &frame,
                });
            });
            self.now += 1;
        }
        let whole = Input::NodeSaid {
            socket: node,
            message: NodeToRelay::Completed {
                alias,
                offset: FRAMES * 4,
                finish_reason: FinishReason::Stop,
                usage: Usage {
                    prompt_tokens: 20,
                    completion_tokens: FRAMES,
                    cached_tokens: 0,
                },
            },
        };
        end.take(|| self.input(whole));
        self.accept();
        self.input(Input::ClientSaid {
            socket: client,
            message: ClientToRelay::Acknowledge {
                job,
                offset: FRAMES * 4,
                whole: true,
            },
            bytes: 0,
        });
        if self
            .scheduler
            .poll_timeout()
            .is_some_and(|due| due <= self.now)
        {
            self.input(Input::Tick);
        }
    }

    /// The nodes begin what they were given.
    fn accept(&mut self) {
        while let Some((job, alias, node)) = self.assigned.pop_front() {
            let Some(client) = self.owners.remove(&job) else {
                continue;
            };
            self.running.push(Running {
                job,
                alias,
                node,
                client,
            });
            self.input(Input::NodeSaid {
                socket: node,
                message: NodeToRelay::Accepted {
                    alias,
                    prompt_tokens: 20,
                    context_tokens: 8_192,
                },
            });
        }
    }

    fn input(&mut self, input: Input<'_>) {
        self.scheduler.handle_input(self.now, input);
        while let Some(output) = self.scheduler.poll_output() {
            if let Output::ToNode {
                socket,
                message: RelayToNode::Assign { job, alias, .. },
            } = output
            {
                self.assigned.push_back((job, alias, socket));
            }
        }
    }
}

/// What a job in line takes, with a prompt of one sentence.
pub(crate) fn waiting_job_bytes() -> WaitingBytes {
    let mut load = Load::new();
    load.join_clients();
    let before = in_use();
    for _ in 0..JOBS_MEASURED {
        load.submit(&mut Times::default());
    }
    load.owners.clear();
    let all = (in_use() - before) / JOBS_MEASURED as usize;
    let before = in_use();
    let held = request(JOBS_MEASURED.into());
    let request = in_use() - before;
    drop(held);
    WaitingBytes { all, request }
}
