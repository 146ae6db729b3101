//! The rig node: llama.cpp behind a node session.

fn main() {}
