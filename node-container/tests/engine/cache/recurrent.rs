//! Models with a recurrent state, which has no parts: it is taken over whole, or from where it was saved. Their weights
//! are seeded, so that what they say means nothing, but all that they have read counts in it.

use gguf_writer::seeded::language::Language;
use node_container::engine::llama::LlamaOptions;
use node_container::engine::{Command, EngineEvent, JobKey};
use protocol::ChatRequest;

use super::{TOLD_APART, cached, conversation, sentences};
use crate::harness::{Ending, Rig};

const SEED: u64 = 7;

/// A rig that keeps so many conversations.
fn rig(model: Language, slots: u32, cached_conversations: u32) -> Rig {
    let weights = model.write(SEED).expect("fits").to_bytes();
    let file = format!("seeded-{model:?}.gguf").to_lowercase();
    Rig::with(LlamaOptions {
        slots,
        context_tokens: Some(2048),
        cached_conversations,
        ..LlamaOptions::new(crate::vision::file(&file, &weights))
    })
}

/// What a rig that knows nothing says.
fn fresh(model: Language, request: ChatRequest) -> String {
    rig(model, 1, 0).ask(request).text
}

fn follow_ups_say_the_same(model: Language) {
    let mut rig = rig(model, 1, 4);
    let question = sentences(6, "the sea");
    let request = conversation(&[&question]);
    let first = rig.ask(request.clone());
    assert_eq!(first.text, fresh(model, request));
    let whole = first.finished().1.prompt_tokens;
    let texts = [&question, &first.text, "And what then?"];
    let second = rig.ask(conversation(&texts));
    assert!(cached(&second) + TOLD_APART > whole, "{:?}", second.ending);
    assert_eq!(second.text, fresh(model, conversation(&texts)));
    // What was read long ago counts: else this would show nothing.
    let other = sentences(6, "the moon");
    let others = [&other, &first.text, "And what then?"];
    assert_ne!(second.text, fresh(model, conversation(&others)));
    // Back to before the second question, where only a saved state can go on.
    for question_again in ["Why?", "So what follows from all this?"] {
        let texts = [&question, &first.text, question_again];
        let edited = rig.ask(conversation(&texts));
        assert!(
            cached(&edited) + TOLD_APART > whole - 24,
            "{:?}",
            edited.ending
        );
        assert_eq!(edited.text, fresh(model, conversation(&texts)));
    }
}

#[test]
fn follow_ups_say_the_same_where_a_state_has_no_parts() {
    follow_ups_say_the_same(Language::Mamba);
}

#[test]
fn follow_ups_say_the_same_where_some_layers_have_a_state() {
    follow_ups_say_the_same(Language::Jamba);
}

/// The texts of several jobs that run at once, and what was in the cache for each.
fn together(rig: &mut Rig, requests: &[ChatRequest]) -> Vec<(String, u32)> {
    let keys: Vec<JobKey> = requests
        .iter()
        .map(|request| rig.start(request.clone()))
        .collect();
    let mut told = vec![(String::new(), 0); keys.len()];
    let place = |of| keys.iter().position(|key| *key == of).expect("one of them");
    let mut finished = 0;
    while finished < keys.len() {
        match rig.event() {
            EngineEvent::Step(advances) => {
                for advance in advances {
                    let text = std::str::from_utf8(&advance.bytes).expect("text");
                    told[place(advance.key)].0.push_str(text);
                }
            }
            EngineEvent::Finished { key, usage, .. } => {
                told[place(key)].1 = usage.cached_tokens;
                finished += 1;
            }
            EngineEvent::Accepted { .. }
            | EngineEvent::Progress { .. }
            | EngineEvent::Checked { .. }
            | EngineEvent::Cached(_) => {}
            failed @ (EngineEvent::Failed { .. } | EngineEvent::Cancelled { .. }) => {
                panic!("{failed:?}");
            }
        }
    }
    told
}

fn conversations_do_not_mix(model: Language) {
    let mut rig = rig(model, 3, 3);
    // The first two begin alike, so that the one reads for the other. All are equally long: one state could stand in
    // another's place, and only the words would tell.
    let [this, that] = ["this", "that"].map(|one| sentences(4, &format!("{one} house")));
    let questions = [
        format!("{this}Who lives here?"),
        format!("{this}Who comes here?"),
        format!("{that}Who lives here?"),
    ];
    let mut turns: Vec<Vec<String>> = questions.map(|question| vec![question]).to_vec();
    for turn in 0..3 {
        let requests: Vec<ChatRequest> = turns
            .iter()
            .map(|texts| conversation(&texts.iter().map(String::as_str).collect::<Vec<_>>()))
            .collect();
        let told = together(&mut rig, &requests);
        for ((request, (text, cached_tokens)), texts) in
            requests.into_iter().zip(told).zip(&mut turns)
        {
            assert!(turn == 0 || cached_tokens > 0);
            assert_eq!(text, fresh(model, request));
            texts.extend([text, "And then?".to_owned()]);
        }
    }
}

#[test]
fn conversations_do_not_mix_where_a_state_has_no_parts() {
    conversations_do_not_mix(Language::Mamba);
}

#[test]
fn conversations_do_not_mix_where_some_layers_have_a_state() {
    conversations_do_not_mix(Language::Jamba);
}

fn a_stop_does_no_harm(model: Language) {
    let mut rig = rig(model, 1, 4);
    let question = sentences(12, "the sea");
    let first = rig.ask(conversation(&[&question]));
    let texts = [&question, &first.text, "And what then?"];
    let request = conversation(&texts);
    // In the midst of an answer: it never ends by itself.
    let endless = ChatRequest {
        max_tokens: None,
        ..request.clone()
    };
    let key = rig.start(endless);
    while !matches!(rig.event(), EngineEvent::Step(_)) {}
    rig.send(Command::Stop { key });
    assert!(matches!(rig.follow(key).ending, Ending::Cancelled(_)));
    // In the midst of a prompt.
    let key = rig.start(conversation(&[&sentences(40, "the moon")]));
    while !matches!(rig.event(), EngineEvent::Progress { .. }) {}
    rig.send(Command::Stop { key });
    rig.follow(key);
    let told = rig.ask(request.clone());
    assert!(cached(&told) > 0, "{:?}", told.ending);
    assert_eq!(told.text, fresh(model, request));
    let moon = conversation(&[&sentences(40, "the moon")]);
    let told = rig.ask(moon.clone());
    assert_eq!(told.text, fresh(model, moon));
}

#[test]
fn a_stop_does_no_harm_where_a_state_has_no_parts() {
    a_stop_does_no_harm(Language::Mamba);
}

#[test]
fn a_stop_does_no_harm_where_some_layers_have_a_state() {
    a_stop_does_no_harm(Language::Jamba);
}
