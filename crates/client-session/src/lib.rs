//! A client's brain: submit, order, acknowledge, cancel; sans-IO.
