//! A real engine with seeded weights, driven step by step: between two of them its cache is damaged.

use std::sync::mpsc::channel;

use gguf_writer::seeded::language::Language;
use protocol::chat::Sampling;
use protocol::{ChatMessage, ChatRequest, Role, Usage};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::engine::llama::LlamaEngine;
use crate::engine::llama::load::LlamaOptions;
use crate::engine::llama::load::file::load_model;
use crate::engine::llama::load::language::{chat_template, syntax, vocabulary};
use crate::engine::llama::reader::Reader;
use crate::engine::tuning::{PromptBatch, Tuned};
use crate::engine::{Command, Engine as _, EngineEvent, JobKey};

const CONTEXT_TOKENS: u32 = 1024;

/// An engine that goes on only when it is told to.
struct Driven<'m> {
    engine: LlamaEngine<'m>,
    commands: UnboundedReceiver<Command>,
}

/// Lends out an engine with two slots and an empty cache.
fn drive(work: impl FnOnce(Driven<'_>)) {
    let weights = Language::Llama.write(1).expect("fits").to_bytes();
    let name = format!("heliograph-{}-damaged.gguf", std::process::id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, weights).expect("writes");
    let options = LlamaOptions {
        slots: 2,
        cached_conversations: 4,
        ..LlamaOptions::new(file.clone())
    };
    let model = load_model(&options).expect("loads");
    std::fs::remove_file(file).expect("is there");
    let template = chat_template(&model, &options).expect("has one");
    let syntax = syntax(&model, &template);
    let vocabulary = vocabulary(&model, &syntax);
    let tuned = Tuned {
        threads: 1,
        prompt_batch: PromptBatch::given(64),
    };
    let (to_reader, tasks) = channel();
    let (to_engine, done) = channel();
    let (wake, commands) = unbounded_channel();
    let engine = LlamaEngine::new(
        &model,
        &vocabulary,
        &options,
        (CONTEXT_TOKENS, tuned),
        (to_reader, done),
    );
    let engine = engine.expect("fits");
    let reader = Reader::new(
        &model,
        &vocabulary,
        (template, syntax),
        CONTEXT_TOKENS,
        None,
    );
    let woken = wake.downgrade();
    std::thread::scope(|scope| {
        scope.spawn(move || reader.run(&tasks, &to_engine, None, &woken));
        // The reader ends with the engine.
        work(Driven { engine, commands });
    });
}

impl Driven<'_> {
    /// Starts a job and waits until it has its slot.
    fn start(&mut self, key: JobKey, request: ChatRequest) {
        self.engine.handle_command(Command::Start {
            key,
            model: String::new(),
            request: Box::new(request.into()),
            answer: None,
            prefix: None,
        });
        let woken = self.commands.blocking_recv().expect("the reader lives");
        self.engine.handle_command(woken);
    }

    /// Goes on until a job is finished; its text, and what it took.
    fn finish(&mut self, job: JobKey) -> (String, Usage) {
        let mut text = String::new();
        loop {
            self.engine.step();
            while let Some(event) = self.engine.poll_event() {
                match event {
                    EngineEvent::Step(advances) => {
                        for advance in advances.iter().filter(|advance| advance.key == job) {
                            text.push_str(std::str::from_utf8(&advance.bytes).expect("text"));
                        }
                    }
                    EngineEvent::Finished { key, usage, .. } if key == job => return (text, usage),
                    EngineEvent::Failed { failure, .. } => panic!("{failure}"),
                    EngineEvent::Accepted { .. }
                    | EngineEvent::Progress { .. }
                    | EngineEvent::Checked { .. }
                    | EngineEvent::Cached(_)
                    | EngineEvent::Finished { .. }
                    | EngineEvent::Cancelled { .. } => {}
                }
            }
        }
    }

    /// How much of a job's context is read.
    fn prefilled(&self, job: JobKey) -> usize {
        let mut slots = self.engine.slots.iter().flatten();
        let slot = slots.find(|slot| slot.key() == job);
        slot.expect("it runs").prefilled()
    }
}

fn ask(content: &str) -> ChatRequest {
    ChatRequest {
        messages: vec![ChatMessage::new(Role::User, content)],
        max_tokens: Some(8),
        sampling: Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        },
        ..ChatRequest::default()
    }
}

#[test]
fn a_job_reads_everything_again_where_the_cache_refuses_what_it_was_to_share() {
    drive(|mut driven| {
        let [first, leader, follower, again] = [1, 2, 3, 4].map(JobKey);
        let beginning = "The sea is deep. ".repeat(12);
        let rest = "The moon is far away. ".repeat(12);
        driven.start(first, ask(&beginning));
        driven.finish(first);
        // Both take the beginning from the cache, and the one lets the other read the rest.
        driven.start(leader, ask(&format!("{beginning}{rest}Why?")));
        let request = ask(&format!("{beginning}{rest}What then?"));
        driven.start(follower, request.clone());
        let shared = driven.prefilled(follower);
        assert!(shared > beginning.len());
        assert!(driven.engine.cache.is_following(1));
        while driven.prefilled(leader) < shared + 100 {
            driven.engine.step();
        }
        assert_eq!(driven.prefilled(follower), shared, "it waits");
        driven.engine.handle_command(Command::Stop { key: leader });
        // What the leader has read is in the cache now, but llama.cpp loses the end of it.
        let entries = driven.engine.cache.entries.iter();
        let longest = entries.max_by_key(|entry| entry.tokens.len());
        let entry = longest.expect("what was read");
        let sequence = u32::try_from(entry.sequence).expect("small");
        let end = u32::try_from(entry.tokens.len() - 10).expect("small");
        let context = &mut driven.engine.context;
        let removed = context.clear_kv_cache_seq(Some(sequence), Some(end), None);
        assert!(removed.expect("small"));
        let (text, usage) = driven.finish(follower);
        assert_eq!(usage.cached_tokens, 0);
        // A job with a seed takes nothing from the cache.
        let mut seeded = request;
        seeded.sampling.seed = Some(1);
        driven.start(again, seeded);
        assert_eq!(driven.finish(again).0, text);
    });
}
