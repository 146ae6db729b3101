//! The thread that prepares jobs: checks, renders, tokenises, compiles grammars. The decode loop never waits for it.

mod prompt;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;

use chat_format::answer::{Answer, Drawn};
use chat_format::family::Syntax;
use chat_format::given::{Given, Tongue, has_stop, reason};
use chat_format::parse::{Parser, Part};
use chat_format::template::ChatTemplate;
use chat_format::vocabulary::Vocabulary;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use protocol::chat::ResponseFormat;
use protocol::{ChatRequest, ErrorCode, Failure, FinishReason, JobRequest};
use tokio::sync::mpsc::WeakUnboundedSender;

use super::looking::Looking;
use super::pictures::{Purpose, blind};
use super::slot::{Slot, Work};
use crate::engine::grammar::steering::Steering;
use crate::engine::sampling::{Defaults, DrawError, Sampler, spent_since, thread_time};
use crate::engine::vision::{Projector, View};
use crate::engine::{Command, JobKey};

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const CANCELLED: u8 = 2;
const ABANDONED: u8 = 3;

/// Computing time: other jobs wait while a grammar is led through a given answer; usual ones take a few milliseconds.
const TAKEN_OVER_TIME_MAX: Duration = Duration::from_secs(5);

/// Where the reader and the engine agree whether a job is still to be read.
#[derive(Debug, Clone, Default)]
pub(super) struct Ticket(Arc<AtomicU8>);

impl Ticket {
    /// Whether the reader has not begun, and now never will. Where it has, nobody wants what comes of it.
    pub(super) fn cancel(&self) -> bool {
        let is_cancelled = self
            .0
            .compare_exchange(WAITING, CANCELLED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if !is_cancelled {
            self.0.store(ABANDONED, Ordering::Release);
        }
        is_cancelled
    }

    /// Whether nobody wants the job any more although reading has begun.
    pub(super) fn is_abandoned(&self) -> bool {
        self.0.load(Ordering::Acquire) == ABANDONED
    }

    /// Whether it may be read.
    pub(super) fn begin(&self) -> bool {
        self.0
            .compare_exchange(WAITING, BEGUN, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// A job as it comes.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) key: JobKey,
    pub(super) model: String,
    pub(super) request: Box<JobRequest>,
    /// What the client has of the answer.
    pub(super) answer: Option<Box<protocol::Answer>>,
}

/// A job that can be decoded, or need not be.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) slot: Slot,
    /// The given answer had reached its end.
    pub(super) over: Option<FinishReason>,
}

/// What the reader is given.
#[derive(Debug)]
pub(super) enum Task {
    /// Make this a job that can be decoded, unless it is cancelled before.
    Prepare(Ticket, Job),
    /// Find out whether it could be made one.
    Check(u32, Box<JobRequest>),
}

/// What the reader gives back: jobs before questions, else in the same order.
#[derive(Debug)]
pub(super) enum Done {
    Prepared(JobKey, Result<Box<Prepared>, Failure>),
    Checked(u32, Option<Failure>),
}

/// Everything about a model that preparing a job needs.
#[derive(Debug)]
pub(super) struct Reader<'m> {
    model: &'m LlamaModel,
    vocabulary: &'m Vocabulary,
    template: ChatTemplate,
    syntax: Syntax,
    defaults: Defaults,
    context_tokens: u32,
    /// For models that see.
    projector: Option<&'m Projector<'m>>,
    /// Bytes of the longest text of one token.
    piece_bytes_max: usize,
}

impl<'m> Reader<'m> {
    pub(super) fn new(
        model: &'m LlamaModel,
        vocabulary: &'m Vocabulary,
        (template, syntax): (ChatTemplate, Syntax),
        context_tokens: u32,
        projector: Option<&'m Projector<'m>>,
    ) -> Self {
        let vocab = model.vocab();
        let piece_bytes_max = vocab
            .tokens()
            .map(|token| vocab.token_to_piece(token, true, None).len())
            .max();
        Self {
            model,
            vocabulary,
            template,
            syntax,
            defaults: Defaults::of_model(model),
            context_tokens,
            projector,
            piece_bytes_max: piece_bytes_max.unwrap_or(1).max(1),
        }
    }

    /// Works until the engine is gone. The weak sender does not keep the engine's loop alive.
    pub(super) fn run(
        &self,
        tasks: &Receiver<Task>,
        done: &Sender<Done>,
        eye: Option<&Sender<Looking>>,
        engine: &WeakUnboundedSender<Command>,
    ) {
        let (mut jobs, mut questions) = (VecDeque::new(), VecDeque::new());
        loop {
            let task = if jobs.is_empty() && questions.is_empty() {
                tasks.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                tasks.try_recv()
            };
            match task {
                Ok(task @ Task::Prepare(..)) => {
                    jobs.push_back(task);
                    continue;
                }
                Ok(task @ Task::Check(..)) => {
                    questions.push_back(task);
                    continue;
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return,
            }
            let Some(task) = jobs.pop_front().or_else(|| questions.pop_front()) else {
                continue;
            };
            let result = match task {
                Task::Prepare(ticket, _) if !ticket.begin() => continue,
                Task::Prepare(ticket, job) => {
                    let key = job.key;
                    match self.prepare(&job, Purpose::Answer(&ticket)).map(Box::new) {
                        Ok(prepared) if prepared.has_to_look() => {
                            let looking = Looking {
                                ticket,
                                key,
                                prepared,
                            };
                            match hand_over(eye, looking) {
                                Ok(()) => continue,
                                Err(failure) => Done::Prepared(key, Err(failure)),
                            }
                        }
                        prepared => Done::Prepared(key, prepared),
                    }
                }
                // The key names nothing: the slot is dropped at once.
                Task::Check(check, request) => {
                    let job = Job {
                        key: JobKey(0),
                        model: String::new(),
                        request,
                        answer: None,
                    };
                    Done::Checked(check, self.prepare(&job, Purpose::Check).err())
                }
            };
            if done.send(result).is_err() {
                return;
            }
            if let Some(engine) = engine.upgrade() {
                // Fails where the loop has ended, which ends the tasks too.
                drop(engine.send(Command::Wake));
            }
        }
    }

    fn prepare(&self, job: &Job, purpose: Purpose<'_>) -> Result<Prepared, Failure> {
        job.request.validate().map_err(|invalid| {
            Failure::new(ErrorCode::InvalidRequest, invalid.message).with_param(invalid.param)
        })?;
        let request = chat(&job.request)?;
        let prompt = self.render(request)?;
        let (tokens, view) = self.tokenise(request, &prompt, purpose)?;
        self.check_length(tokens.len(), true)?;
        let seed = getrandom::u64().map_err(|_| {
            Failure::new(
                ErrorCode::EngineFailed,
                "the node has no source of randomness",
            )
        })?;
        let text = prompt.text();
        let parser = Parser::new(self.syntax, request, &text);
        let steering = Steering::new(self.model, &self.syntax, request, &parser, &text)?;
        let mut sampler = Sampler::new(self.model, self.defaults, request, seed)?;
        sampler.constrain(steering.start());
        let answer = Answer::new(&request.stop, parser, 0);
        self.go_on(job, (tokens, view), answer, (sampler, steering))
    }

    /// Takes in what the client has of the answer.
    fn go_on(
        &self,
        job: &Job,
        (mut context, view): (Vec<LlamaToken>, View),
        mut answer: Answer,
        (mut sampler, steering): (Sampler, Steering),
    ) -> Result<Prepared, Failure> {
        let request = chat(&job.request)?;
        let prompt_tokens = u32::try_from(context.len()).unwrap_or(u32::MAX);
        let given = job
            .answer
            .as_ref()
            .map(|given| self.given(given, job, &answer))
            .transpose()?
            .unwrap_or_default();
        answer.expect(given.bytes);
        let stopped = job
            .answer
            .as_ref()
            .filter(|given| has_stop(given, &request.stop));
        let mut is_whole = stopped.is_some();
        let vocab = self.model.vocab();
        let began = thread_time();
        for id in &given.known {
            if is_whole {
                break;
            }
            if spent_since(began) > TAKEN_OVER_TIME_MAX {
                return Err(disagreement(request, DrawError::TooSlow));
            }
            let token = to_token(*id);
            if vocab.is_eog(token) {
                answer.finish(None);
                is_whole = true;
                break;
            }
            is_whole = self
                .take(*id, &mut answer, (&mut sampler, &steering))
                .map_err(|error| disagreement(request, error))?;
            context.push(token);
        }
        if !is_whole && steering.is_demand() {
            let ahead = given.replayed.iter().copied().chain(given.forced.path());
            self.foresee(ahead, answer.clone(), (sampler.clone(), &steering))
                .map_err(|error| disagreement(request, error))?;
        }
        let is_in_line = view.is_in_line(context.len());
        // Nothing was read of one that had stopped.
        let reason = stopped.map_or_else(|| answer.reason(), |given| reason(given));
        let mut slot = Slot::new(Work {
            key: job.key,
            context,
            prompt_tokens,
            view,
            context_tokens_max: self.context_tokens,
            answer_tokens_max: request.max_tokens.unwrap_or(u32::MAX),
            told_tokens: given.told_tokens,
            told_bytes: job.answer.as_ref().map_or(0, |answer| answer.bytes()),
            replayed: given.replayed,
            forced: given.forced,
            sampler,
            steering,
            answer,
            top_logprobs: request.top_logprobs,
            is_seeded: request.sampling.seed.is_some(),
            is_in_line,
        });
        let over = is_whole.then_some(reason).or_else(|| {
            slot.is_full().then(|| {
                slot.finish();
                FinishReason::Length
            })
        });
        Ok(Prepared { slot, over })
    }

    /// Whether these tokens could follow, by what the request demands.
    fn foresee(
        &self,
        ahead: impl Iterator<Item = u32>,
        mut answer: Answer,
        (mut sampler, steering): (Sampler, &Steering),
    ) -> Result<(), DrawError> {
        for id in ahead {
            if self.model.vocab().is_eog(to_token(id)) {
                return steering.accept(&mut sampler, to_token(id));
            }
            if self.take(id, &mut answer, (&mut sampler, steering))? {
                break;
            }
        }
        Ok(())
    }

    /// Takes over a token that was drawn before; `true` where the answer is whole with it.
    fn take(
        &self,
        id: u32,
        answer: &mut Answer,
        (sampler, steering): (&mut Sampler, &Steering),
    ) -> Result<bool, DrawError> {
        steering.accept(sampler, to_token(id))?;
        let is_whole = answer.push(Drawn {
            token: id,
            piece: self.piece(id),
            logprob: None,
            is_told: true,
        });
        if !is_whole {
            steering.follow(answer, sampler, self.vocabulary)?;
        }
        Ok(is_whole)
    }

    fn given(
        &self,
        answer: &protocol::Answer,
        job: &Job,
        fresh: &Answer,
    ) -> Result<Given, Failure> {
        let vocab = self.model.vocab();
        let tokenise = |parts: &[Part]| self.tokenise_parts(parts);
        let is_end = |id| vocab.is_eog(to_token(id));
        let tongue = Tongue {
            vocabulary: self.vocabulary,
            is_end: &is_end,
            tokenise: &tokenise,
            fresh,
        };
        let has_ids = answer.model.as_deref() == Some(job.model.as_str());
        Given::of(
            answer,
            has_ids,
            chat(&job.request)?.top_logprobs.is_some(),
            &tongue,
        )
    }

    /// The bytes of a token of an answer.
    pub(super) fn piece(&self, token: u32) -> &[u8] {
        self.vocabulary.piece(token).unwrap_or_default()
    }
}

/// Gives a job to the thread that looks at pictures.
fn hand_over<T>(eye: Option<&Sender<T>>, job: T) -> Result<(), Failure> {
    let eye = eye.ok_or_else(blind)?;
    // The model can see; only this node cannot show it anything, and another one may.
    eye.send(job).map_err(|_| {
        Failure::new(
            ErrorCode::EngineFailed,
            "the node cannot look at images any more; try again",
        )
    })
}

/// The conversation that a job asks for.
fn chat(request: &JobRequest) -> Result<&ChatRequest, Failure> {
    request.as_chat().ok_or_else(|| {
        Failure::new(
            ErrorCode::CapabilityMissing,
            "this node answers conversations only",
        )
        .with_param("model")
    })
}

impl Prepared {
    /// Whether pictures are to be looked at before it can be decoded.
    fn has_to_look(&self) -> bool {
        self.over.is_none() && !self.slot.view().is_empty()
    }
}

/// Only ids that the vocabulary has come here.
pub(super) fn to_token(id: u32) -> LlamaToken {
    LlamaToken::new(i32::try_from(id).unwrap_or(i32::MAX))
}

/// The answer was not made by these rules.
fn disagreement(request: &ChatRequest, error: DrawError) -> Failure {
    let (what, param) = match request.response_format {
        ResponseFormat::Text => ("the tools", "tools"),
        ResponseFormat::JsonObject
        | ResponseFormat::JsonSchema { .. }
        | ResponseFormat::Unknown => ("the response format", "response_format"),
    };
    let message = match error {
        DrawError::NoToken => {
            format!("the answer so far does not keep to {what}, so nobody can go on with it")
        }
        DrawError::TooSlow => format!(
            "holding this answer to {what} takes too long; use fewer alternatives and repetitions in the schema"
        ),
    };
    Failure::new(ErrorCode::InvalidRequest, message).with_param(param)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_either_read_or_cancelled() {
        let ticket = Ticket::default();
        assert!(ticket.cancel());
        assert!(!ticket.begin());
        let ticket = Ticket::default();
        assert!(ticket.begin());
        assert!(!ticket.cancel());
    }

    #[test]
    fn a_model_whose_eye_is_gone_is_not_blind_and_another_node_may_do_better() {
        let (eye, looked) = std::sync::mpsc::channel();
        assert_eq!(hand_over(Some(&eye), 1), Ok(()));
        assert_eq!(looked.recv(), Ok(1));
        drop(looked);
        let code = |handed: Result<(), Failure>| handed.map_err(|failure| failure.code);
        assert_eq!(code(hand_over(Some(&eye), 2)), Err(ErrorCode::EngineFailed));
        assert_eq!(
            code(hand_over(None::<&Sender<u8>>, 3)),
            Err(ErrorCode::CapabilityMissing)
        );
    }
}
