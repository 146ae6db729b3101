//! Behaviour of `affinity` by itself, by sentence.

use protocol::{ChatRequest, Role};

use super::*;
use crate::Config;
use crate::models::Models;

fn conversation(texts: &[&str]) -> JobRequest {
    let message = |text: &&str| ChatMessage {
        role: Role::User,
        content: (*text).to_owned(),
        ..ChatMessage::default()
    };
    ChatRequest {
        messages: texts.iter().map(message).collect(),
        ..ChatRequest::default()
    }
    .into()
}

#[test]
fn a_follow_up_shares_the_beginnings_of_what_went_before() {
    let affinity = Affinity::new(7, 10);
    let before = affinity.prefixes(&conversation(&["a", "b"]));
    let after = affinity.prefixes(&conversation(&["a", "b", "c", "d"]));
    assert_eq!(before[..], after[2..]);
    let other = affinity.prefixes(&conversation(&["a", "x", "c", "d"]));
    assert_eq!(after[3..], other[3..]);
    assert!(after[..3].iter().all(|prefix| !other.contains(prefix)));
    // Where a message ends matters.
    let split = affinity.prefixes(&conversation(&["ab"]));
    assert!(!before.contains(&split[0]));
}

#[test]
fn another_salt_makes_other_hashes_and_long_texts_differ_by_their_ends() {
    let request = conversation(&["a"]);
    let (one, other) = (Affinity::new(1, 10), Affinity::new(2, 10));
    assert_ne!(one.prefixes(&request), other.prefixes(&request));
    let long = "x".repeat(100_000);
    let begun = one.prefixes(&conversation(&[&format!("a{long}")]));
    let ended = one.prefixes(&conversation(&[&format!("{long}a")]));
    assert_ne!(begun, ended);
    let many: Vec<&str> = vec!["a"; 100];
    assert_eq!(one.prefixes(&conversation(&many)).len(), PREFIXES_MAX);
}

#[test]
fn the_least_recent_beginnings_are_forgotten() {
    let models = Models::new(&Config {
        models: vec![crate::ModelEntry {
            id: "m".into(),
            class: protocol::NodeClass::Rig,
            context_tokens: 1,
        }],
        ..Config::default()
    });
    let model = models.by_id("m").unwrap();
    let mut affinity = Affinity::new(1, 3);
    let by = Holder {
        node: 1,
        socket: SocketId(1),
        serial: 1,
    };
    for prefix in [1, 2, 3, 1, 4] {
        affinity.note(model, prefix, by);
    }
    assert_eq!(affinity.len(), 3);
    assert!(affinity.holders.contains_key(&(model, 1)));
    assert!(!affinity.holders.contains_key(&(model, 2)));
    assert_eq!(affinity.by_use.len(), 3);
}
