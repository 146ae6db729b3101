//! What the judge gets to see: everything that happens, as it happens, from all sides.

use client_session::Event;
use node_session::{EngineEvent, NodeSession};
use protocol::{ClientToRelay, Failure, JobId, NodeToRelay, RelayToNode};
use scheduler::{Output, Scheduler, SocketId};

use crate::engine::FakeEngine;
use crate::network::Message;
use crate::scenario::Fault;

/// One thing seen.
#[derive(Debug)]
pub(crate) enum Observation<'a> {
    // The user's side.
    UserAsks {
        job: JobId,
    },
    UserStops {
        job: JobId,
    },
    UserHears {
        client: usize,
        job: JobId,
        event: &'a Event,
    },
    ClientGoes {
        client: usize,
    },
    ClientCut {
        client: usize,
        code: u16,
    },
    ClientRefused {
        client: usize,
        failure: &'a Failure,
    },
    ClientHears {
        client: usize,
        message: &'a Message,
    },
    // The relay's side.
    RelayStarts,
    RelayDies,
    ClientJoins {
        socket: SocketId,
        client: usize,
    },
    NodeJoins {
        socket: SocketId,
        node: usize,
        announces: u32,
    },
    SocketLeaves {
        socket: SocketId,
    },
    ClientSaid {
        socket: SocketId,
        message: &'a ClientToRelay,
    },
    NodeSaid {
        socket: SocketId,
        message: &'a NodeToRelay,
    },
    NodeTokens {
        socket: SocketId,
        frame: &'a [u8],
    },
    RelaySays(&'a Output),
    /// After each input, once all that it led to was said.
    RelayRests {
        scheduler: &'a Scheduler,
    },
    // The node's side.
    NodeStarts {
        node: usize,
    },
    NodeDies {
        node: usize,
    },
    NodeExits {
        node: usize,
        end: node_session::End,
    },
    NodeCut {
        node: usize,
        code: u16,
    },
    NodeRefused {
        node: usize,
        failure: &'a Failure,
    },
    NodeHears {
        node: usize,
        message: &'a RelayToNode,
        session: &'a NodeSession,
    },
    NodeRests {
        node: usize,
        session: &'a NodeSession,
        engine: &'a FakeEngine,
    },
    EngineStarts {
        node: usize,
        job: JobId,
        complaint: Option<&'a str>,
        load: usize,
        slots: usize,
    },
    EngineSays {
        node: usize,
        event: &'a EngineEvent,
    },
    // The world's side.
    Fault {
        fault: &'a Fault,
    },
    TroubleOver,
    Over,
}
