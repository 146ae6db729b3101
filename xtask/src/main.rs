//! setup, demo, test, lint: everything the project does to itself.

fn main() {}
