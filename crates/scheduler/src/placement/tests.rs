//! Behaviour of `placement` by itself, by sentence.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use protocol::{ChatMessage, EmbedRequest, Image, Tool};

use super::*;

fn rng() -> ChaCha8Rng {
    ChaCha8Rng::from_seed([7; 32])
}

fn shares(set: &mut Weights, avoid: Option<u32>) -> BTreeMap<u32, u32> {
    let mut rng = rng();
    let mut shares = BTreeMap::new();
    for _ in 0..10_000 {
        *shares
            .entry(set.draw(&mut rng, avoid).unwrap())
            .or_insert(0) += 1;
    }
    shares
}

fn weights(weights: &[f64]) -> Weights {
    let mut set = Weights::default();
    for weight in weights {
        let place = set.add();
        set.set(place, *weight);
    }
    set
}

#[test]
fn places_are_drawn_in_proportion_to_their_weights() {
    let shares = shares(&mut weights(&[1.0, 3.0, 6.0]), None);
    for (place, expected) in [(0, 1_000), (1, 3_000), (2, 6_000)] {
        assert!(shares[&place].abs_diff(expected) < 200, "{shares:?}");
    }
}

#[test]
fn an_avoided_place_is_drawn_only_where_it_is_alone() {
    let mut set = weights(&[1_000.0]);
    assert_eq!(set.draw(&mut rng(), Some(0)), Some(0));
    let other = set.add();
    assert_eq!(set.draw(&mut rng(), Some(0)), Some(0));
    set.set(other, 1.0);
    let drawn = shares(&mut set, Some(0));
    assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [(other, 10_000)]);
    // Avoiding is for one draw.
    assert!(shares(&mut set, None)[&0] > 9_900);
}

#[test]
fn a_removed_place_is_not_drawn_and_used_again() {
    let mut set = weights(&[1.0; 5]);
    set.remove(3);
    assert_eq!(
        shares(&mut set, None).into_keys().collect::<Vec<_>>(),
        [0, 1, 2, 4]
    );
    assert_eq!(set.add(), 3);
    assert_eq!(set.add(), 5);
}

#[test]
fn needs_are_met_by_what_a_node_can_do() {
    let request = ChatRequest {
        response_format: ResponseFormat::JsonObject,
        top_logprobs: Some(0),
        ..ChatRequest::default()
    };
    let need = Need::of(&request.into());
    let both = Capabilities {
        grammar: true,
        logprobs: true,
        ..Capabilities::default()
    };
    assert!(need.is_within(Need::met_by(both)));
    assert!(!need.is_within(Need::met_by(Capabilities {
        logprobs: false,
        ..both
    })));
    assert!(!need.is_within(Need::met_by(Capabilities {
        grammar: false,
        ..both
    })));
    assert!(!need.with_continuation().is_within(Need::met_by(both)));
    assert!(
        Need::of(&ChatRequest::default().into()).is_within(Need::met_by(Capabilities::default()))
    );
}

#[test]
fn tools_pictures_and_vectors_need_nodes_that_can_do_them() {
    let conversations = Need::met_by(Capabilities::default());
    let can =
        |able: Capabilities, request: JobRequest| Need::of(&request).is_within(Need::met_by(able));
    let tools = Capabilities {
        tools: true,
        ..Capabilities::default()
    };
    let vision = Capabilities {
        vision: true,
        ..Capabilities::default()
    };
    let vectors = Capabilities {
        chat: false,
        embeddings: true,
        ..Capabilities::default()
    };
    let with_tool = |tool_choice| ChatRequest {
        tools: vec![Tool {
            name: "a".into(),
            description: None,
            parameters: None,
        }],
        tool_choice,
        ..ChatRequest::default()
    };
    assert!(can(tools, with_tool(ToolChoice::Auto).into()));
    assert!(!Need::of(&with_tool(ToolChoice::Auto).into()).is_within(conversations));
    assert!(Need::of(&with_tool(ToolChoice::None).into()).is_within(conversations));
    let mut message = ChatMessage::default();
    message.images.push(Image {
        at: 0,
        data: "AA==".into(),
    });
    let picture = ChatRequest {
        messages: vec![message],
        ..ChatRequest::default()
    };
    assert!(can(vision, picture.clone().into()));
    assert!(!can(tools, picture.into()));
    assert!(can(vectors, EmbedRequest::default().into()));
    assert!(!can(vision, EmbedRequest::default().into()));
    assert!(!can(vectors, ChatRequest::default().into()));
}

proptest! {
    #[test]
    fn only_places_with_weight_are_drawn_whatever_comes_and_goes(
        steps in prop::collection::vec((0_usize..40, prop::option::of(0.0_f64..1e6)), 1..200),
    ) {
        let mut set = Weights::default();
        let mut places: Vec<Option<u32>> = vec![None; 40];
        let mut heavy = BTreeSet::new();
        let mut rng = rng();
        for (index, weight) in steps {
            if let Some(weight) = weight {
                let place = *places[index].get_or_insert_with(|| set.add());
                set.set(place, weight);
                if weight > 0.0 {
                    heavy.insert(place);
                } else {
                    heavy.remove(&place);
                }
            } else if let Some(place) = places[index].take() {
                set.remove(place);
                heavy.remove(&place);
            }
            prop_assert_eq!(set.is_empty(), heavy.is_empty());
            let avoid = places[index];
            let drawn = set.draw(&mut rng, avoid);
            prop_assert_eq!(drawn.is_none(), heavy.is_empty());
            prop_assert!(drawn.is_none_or(|drawn| heavy.contains(&drawn)));
            prop_assert!(drawn.is_none_or(|drawn| Some(drawn) != avoid || heavy.len() == 1));
            prop_assert_eq!(set.total(avoid) > 0.0, heavy.iter().any(|place| Some(*place) != avoid));
        }
    }
}
