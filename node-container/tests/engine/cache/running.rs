//! The cache and jobs that run: they share what they read, and they come first.

use node_container::engine::{Command, EngineEvent, JobKey};
use protocol::chat::LogitBias;
use protocol::{Answer, ChatMessage, ChatRequest, FinishReason, Role, Transcript};

use super::{
    STEP_TOKENS, TOLD_APART, cached, conversation, gemma, gemma_options, options, sentences, smol,
    uncached,
};
use crate::harness::{Ending, MODEL, Rig, Told, text_of};

/// Follows several jobs to their ends.
fn follow_all(rig: &mut Rig, keys: &[JobKey]) -> Vec<Ending> {
    let mut endings: Vec<Option<Ending>> = vec![None; keys.len()];
    while endings.iter().any(Option::is_none) {
        let (key, ending) = match rig.event() {
            EngineEvent::Finished {
                key,
                finish_reason,
                usage,
            } => (key, Ending::Finished(finish_reason, usage)),
            EngineEvent::Failed { key, failure } => (key, Ending::Failed(failure)),
            EngineEvent::Cancelled { key, usage } => (key, Ending::Cancelled(usage)),
            EngineEvent::Accepted { .. }
            | EngineEvent::Progress { .. }
            | EngineEvent::Step(_)
            | EngineEvent::Checked { .. }
            | EngineEvent::Cached(_) => continue,
        };
        if let Some(index) = keys.iter().position(|of| *of == key) {
            endings[index] = Some(ending);
        }
    }
    endings.into_iter().flatten().collect()
}

fn with_system(system: &str, question: &str) -> ChatRequest {
    let mut request = conversation(&[question]);
    request
        .messages
        .insert(0, ChatMessage::new(Role::System, system));
    request
}

/// Jobs that arrive together read what they have in common once.
fn a_beginning_is_read_once(mut rig: Rig) {
    let system = sentences(30, "this house");
    let questions = ["Who are you?", "Where is it?", "What is known?", "Why so?"];
    let requests = questions.map(|question| with_system(&system, question));
    let keys = requests.clone().map(|request| rig.start(request));
    let read: Vec<u32> = follow_all(&mut rig, &keys)
        .into_iter()
        .map(|ending| match ending {
            Ending::Finished(_, usage) => usage.prompt_tokens - usage.cached_tokens,
            other @ (Ending::Failed(_) | Ending::Cancelled(_)) => panic!("{other:?}"),
        })
        .collect();
    let whole = read.iter().copied().max().expect("some");
    assert!(whole > 400, "{read:?}");
    let rest: u32 = read.iter().sum::<u32>() - whole;
    assert!(rest < 3 * (40 + TOLD_APART), "{read:?}");
    // And later ones find it.
    let late = rig.ask(with_system(&system, "How many?"));
    assert!(uncached(&late) < 40 + TOLD_APART, "{:?}", late.ending);
    let again = rig.ask(requests[1].clone());
    assert!(cached(&again) > 400, "{:?}", again.ending);
}

#[test]
fn a_system_prompt_is_read_once_for_all() {
    a_beginning_is_read_once(smol(4, 1024));
}

#[test]
fn a_system_prompt_is_read_once_for_all_where_windows_forget() {
    a_beginning_is_read_once(gemma(4, 1024));
}

/// Goes on until the context is full: the ends of turns of both models are biased away.
fn endless(question: &str) -> ChatRequest {
    let mut request = conversation(&[question]);
    request.max_tokens = None;
    request.sampling.logit_bias = [0, 1, 2, 106]
        .map(|token| LogitBias {
            token,
            bias: -100.0,
        })
        .to_vec();
    request
}

/// Fills the cache and then all slots to the brim.
fn running_jobs_win(mut rig: Rig, context_tokens: u32) {
    let abouts = [
        "the sea", "the moon", "the sun", "the wind", "the rain", "the snow",
    ];
    let size = usize::try_from(context_tokens / 30).expect("small");
    for about in abouts {
        let told = rig.ask(conversation(&[&sentences(size, about)]));
        assert_eq!(told.finished().0, FinishReason::Length);
    }
    for round in 0..2 {
        let keys = [abouts[round], abouts[round + 2]].map(|about| {
            let request = endless(&sentences(size, about));
            rig.start(request)
        });
        for ending in follow_all(&mut rig, &keys) {
            let Ending::Finished(reason, usage) = ending else {
                panic!("{ending:?}");
            };
            assert_eq!(reason, FinishReason::Length);
            assert_eq!(
                usage.prompt_tokens + usage.completion_tokens,
                context_tokens
            );
        }
    }
}

#[test]
fn conversations_give_way_to_running_jobs() {
    running_jobs_win(Rig::with(options(2, 512, 16)), 512);
}

#[test]
fn conversations_give_way_to_running_jobs_where_windows_forget() {
    running_jobs_win(Rig::with(gemma_options(2, 768, 6)), 768);
}

fn until_progress(rig: &mut Rig, key: JobKey) {
    loop {
        if let EngineEvent::Progress { key: of, .. } = rig.event()
            && of == key
        {
            return;
        }
    }
}

#[test]
fn a_stopped_job_leaves_what_it_has_read() {
    let mut rig = smol(1, 1024);
    let question = sentences(40, "the sea");
    let key = rig.start(endless(&question));
    until_progress(&mut rig, key);
    rig.send(Command::Stop { key });
    assert!(matches!(rig.follow(key).ending, Ending::Cancelled(_)));
    let told = rig.ask(conversation(&[&question]));
    assert!(cached(&told) as usize >= STEP_TOKENS, "{:?}", told.ending);
}

#[test]
fn a_paused_job_holds_nobody_up() {
    let mut rig = smol(2, 1024);
    let request = |max_tokens| ChatRequest {
        max_tokens: Some(max_tokens),
        ..endless(&sentences(40, "the sea"))
    };
    // Its answer is so long that it does not end before the pause, however late that comes.
    let paused = rig.start(request(100));
    until_progress(&mut rig, paused);
    rig.send(Command::Pause { key: paused });
    let begun = text_of(&rig.settle(), paused).unwrap_or_default();
    let told = rig.ask(request(12));
    // What the paused one had read is shared all the same.
    assert!(cached(&told) as usize >= STEP_TOKENS, "{:?}", told.ending);
    rig.send(Command::Unpause { key: paused });
    let whole = begun + &rig.follow(paused).text;
    assert!(whole.starts_with(&told.text), "{whole}");
}

#[test]
fn a_job_goes_on_where_the_one_that_it_followed_is_stopped() {
    let mut rig = smol(2, 2048);
    // Read in many steps, so that the stop comes before the last one.
    let request = conversation(&[&sentences(110, "the sea")]);
    let leader = rig.start(request.clone());
    let follower = rig.start(request);
    until_progress(&mut rig, leader);
    rig.send(Command::Stop { key: leader });
    let endings = follow_all(&mut rig, &[leader, follower]);
    assert!(matches!(endings[0], Ending::Cancelled(_)), "{endings:?}");
    let Ending::Finished(_, usage) = endings[1] else {
        panic!("{endings:?}");
    };
    assert!(usage.cached_tokens as usize >= STEP_TOKENS, "{usage:?}");
    assert!(usage.cached_tokens < usage.prompt_tokens - 1, "{usage:?}");
}

/// What a client has after the first `count` deltas.
fn first(told: &Told, count: usize) -> Option<Answer> {
    let mut transcript = Transcript::default();
    for advance in &told.advances[..count] {
        transcript.push(advance.kind, advance.tokens.iter().copied(), &advance.bytes);
    }
    transcript.answer(Some(MODEL))
}

#[test]
fn an_answer_that_goes_on_finds_its_beginning_in_the_cache() {
    let mut rig = smol(1, 1024);
    let mut request = conversation(&[&sentences(20, "the sea")]);
    request.max_tokens = Some(30);
    let whole = rig.ask(request.clone());
    for count in [0, 1, whole.advances.len() / 2] {
        let rest = rig.go_on(&request, first(&whole, count));
        let given: String = whole.pieces[..count].concat();
        assert!(uncached(&rest) <= TOLD_APART, "{:?}", rest.ending);
        assert!((given + &rest.text).starts_with(&whole.pieces[..=count].concat()));
        assert!(rest.finished().1.completion_tokens > 1);
    }
}
