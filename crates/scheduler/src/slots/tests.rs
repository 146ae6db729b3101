//! Behaviour of `slots` by itself, by sentence.

use super::*;

#[test]
fn no_more_slots_are_taken_than_there_are() {
    let mut slots = Slots::new(2);
    let one = slots.take().unwrap();
    let two = slots.take().unwrap();
    assert_eq!(slots.take(), None);
    assert_eq!((slots.total(), slots.free()), (2, 0));
    slots.give_back(one);
    assert_eq!(slots.free(), 1);
    slots.give_back(two);
    assert_eq!(slots.free(), 2);
}

#[test]
#[should_panic(expected = "never taken")]
fn a_slot_of_another_node_is_not_taken_back() {
    let slot = Slots::new(1).take().unwrap();
    Slots::new(1).give_back(slot);
}
