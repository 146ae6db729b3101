//! Behaviour of `placement` by itself, by sentence.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;

fn rng() -> ChaCha8Rng {
    ChaCha8Rng::from_seed([7; 32])
}

fn shares(set: &mut WeightedSet, avoid: Option<SocketId>) -> BTreeMap<u32, u32> {
    let mut rng = rng();
    let mut shares = BTreeMap::new();
    for _ in 0..10_000 {
        *shares
            .entry(set.choose(&mut rng, avoid).unwrap().0)
            .or_insert(0) += 1;
    }
    shares
}

#[test]
fn nodes_are_drawn_in_proportion_to_their_weights() {
    let mut set = WeightedSet::default();
    for (node, weight) in [(1, 1.0), (2, 3.0), (3, 6.0)] {
        set.set(SocketId(node), weight);
    }
    let shares = shares(&mut set, None);
    for (node, expected) in [(1, 1_000), (2, 3_000), (3, 6_000)] {
        assert!(shares[&node].abs_diff(expected) < 200, "{shares:?}");
    }
}

#[test]
fn an_avoided_node_is_drawn_only_where_it_is_alone() {
    let mut set = WeightedSet::default();
    set.set(SocketId(1), 1_000.0);
    assert_eq!(set.choose(&mut rng(), Some(SocketId(1))), Some(SocketId(1)));
    set.set(SocketId(2), 1.0);
    let drawn = shares(&mut set, Some(SocketId(1)));
    assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [(2, 10_000)]);
    // Avoiding is for one draw.
    assert!(shares(&mut set, None)[&1] > 9_900);
}

#[test]
fn a_removed_node_is_not_drawn_and_its_place_is_used_again() {
    let mut set = WeightedSet::default();
    for node in 0..5 {
        set.set(SocketId(node), 1.0);
    }
    set.remove(SocketId(3));
    set.set(SocketId(9), 1.0);
    assert_eq!(set.members.len(), 5);
    assert_eq!(
        shares(&mut set, None).into_keys().collect::<Vec<_>>(),
        [0, 1, 2, 4, 9]
    );
}

#[test]
fn needs_are_met_by_what_a_node_can_do() {
    let request = ChatRequest {
        response_format: ResponseFormat::JsonObject,
        top_logprobs: Some(0),
        ..ChatRequest::default()
    };
    let need = Need::of(&request);
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
    assert!(Need::of(&ChatRequest::default()).is_within(Need::met_by(Capabilities::default())));
}

proptest! {
    #[test]
    fn only_members_are_drawn_whatever_joins_and_leaves(
        steps in prop::collection::vec((0_u32..40, prop::option::of(0.001_f64..1e6)), 1..200),
    ) {
        let mut set = WeightedSet::default();
        let mut model = BTreeSet::new();
        let mut rng = rng();
        for (node, weight) in steps {
            if let Some(weight) = weight {
                set.set(SocketId(node), weight);
                model.insert(SocketId(node));
            } else {
                set.remove(SocketId(node));
                model.remove(&SocketId(node));
            }
            prop_assert_eq!(set.is_empty(), model.is_empty());
            let drawn = set.choose(&mut rng, Some(SocketId(node)));
            prop_assert_eq!(drawn.is_none(), model.is_empty());
            prop_assert!(drawn.is_none_or(|drawn| model.contains(&drawn)));
        }
    }
}
