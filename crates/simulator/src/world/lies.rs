//! Nodes that lie: a real session whose words are bent between it and the socket. Only liars get here.

use protocol::limits::NODE_FRAME_BYTES_MAX;
use protocol::{
    Alias, AnswerHash, FinishReason, JobId, NodeToRelay, RelayToNode, TokenFrame, TokenFrameWriter,
    Usage, decode, encode,
};
use rand::RngExt;

use crate::network::{End, Message};
use crate::scenario::Lie;
use crate::world::World;

/// Announcements that a thief makes.
const ANNOUNCED: usize = 2;

/// What a liar remembers.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Its own attempts and their tickets, the oldest first.
    own: Vec<(JobId, u32, String)>,
    /// Its running attempts: name, bytes said.
    said: Vec<(Alias, u32)>,
    /// What it will announce after the welcome.
    planned: Vec<(JobId, u32, String)>,
}

impl World {
    /// Bends what the relay says to a liar; `false` where it does not listen.
    pub(crate) fn lie_about_heard(&mut self, node: usize, message: &mut RelayToNode) -> bool {
        let Some(lie) = self.nodes[node].lie else {
            return true;
        };
        match message {
            RelayToNode::Assign {
                job,
                attempt,
                alias,
                ticket,
                window_bytes,
                answer,
                ..
            } => {
                let start = answer.as_ref().map_or(0, protocol::Answer::bytes);
                let memory = &mut self.nodes[node].memory;
                memory.own.push((*job, *attempt, ticket.clone()));
                memory
                    .said
                    .push((*alias, u32::try_from(start).unwrap_or(0)));
                if lie == Lie::NoWindow {
                    *window_bytes = u32::MAX;
                }
                true
            }
            RelayToNode::Adopt { window_bytes, .. } => {
                if lie == Lie::NoWindow {
                    *window_bytes = u32::MAX;
                }
                true
            }
            RelayToNode::Cancel { .. } => lie != Lie::NeverStops,
            RelayToNode::Welcome { .. }
            | RelayToNode::Fence { .. }
            | RelayToNode::Merge { .. }
            | RelayToNode::CheckPrompt { .. }
            | RelayToNode::Acknowledge { .. }
            | RelayToNode::Refused { .. }
            | RelayToNode::Pong
            | RelayToNode::Unknown => true,
        }
    }

    /// Bends what a liar's session says.
    pub(crate) fn lie_about_said(&mut self, node: usize, message: Message) -> Vec<Message> {
        let Some(lie) = self.nodes[node].lie else {
            return vec![message];
        };
        match message {
            Message::Binary(frame) => self.lie_in_tokens(node, lie, frame),
            Message::Text(text) => {
                let Ok(mut said) = decode::<NodeToRelay>(&text, NODE_FRAME_BYTES_MAX) else {
                    return vec![Message::Text(text)];
                };
                if let NodeToRelay::Hello { announces, .. } = &mut said {
                    self.plan_announcements(node, lie);
                    let planned = self.nodes[node].memory.planned.len();
                    *announces += u32::try_from(planned).unwrap_or(0);
                }
                vec![Message::Text(encode(&said))]
            }
        }
    }

    fn plan_announcements(&mut self, node: usize, lie: Lie) {
        let mut planned = Vec::new();
        match lie {
            Lie::StolenTickets => {
                for other in 0..self.nodes.len() {
                    if other != node {
                        let stolen = self.judge.shadow().node_tickets_of(other);
                        planned.extend(stolen.rev().take(ANNOUNCED).cloned());
                    }
                }
            }
            Lie::ForgedTickets => {
                for number in 0..ANNOUNCED {
                    let jobs = self.scenario.jobs.len();
                    let job = self.scenario.jobs[self.rng.random_range(0..jobs)].id;
                    let ticket = match number {
                        0 => "bm90aGluZw.bm90aGluZw".to_owned(),
                        _ => self.perturbed_ticket(),
                    };
                    planned.push((job, 1, ticket));
                }
            }
            Lie::StaleTickets => {
                let own = &self.nodes[node].memory.own;
                planned.extend(own.iter().take(ANNOUNCED).cloned());
            }
            Lie::Text
            | Lie::Offsets
            | Lie::Duplicates
            | Lie::Tokens
            | Lie::ForeignText
            | Lie::EarlyEnd
            | Lie::NoWindow
            | Lie::NeverStops => {}
        }
        self.nodes[node].memory.planned = planned;
    }

    /// Somebody's genuine ticket with one character changed.
    fn perturbed_ticket(&mut self) -> String {
        let mut ticket = self
            .judge
            .shadow()
            .any_node_ticket()
            .unwrap_or_else(|| "a.b".into());
        let at = self.rng.random_range(0..ticket.len());
        let other = if ticket.as_bytes()[at] == b'A' {
            "B"
        } else {
            "A"
        };
        ticket.replace_range(at..=at, other);
        ticket
    }

    /// A liar has heard its welcome: it says what it planned.
    pub(crate) fn node_is_welcome(&mut self, node: usize) {
        for (job, attempt, ticket) in std::mem::take(&mut self.nodes[node].memory.planned) {
            let announce = NodeToRelay::Announce {
                job,
                attempt,
                ticket,
                from: 0,
                hash: AnswerHash::default(),
                offset: self.rng.random_range(0..200),
                ended: self.rng.random(),
            };
            if let Some(conn) = self.nodes[node].conn {
                self.send(conn, End::Relay, Message::Text(encode(&announce)));
            }
        }
    }

    fn lie_in_tokens(&mut self, node: usize, lie: Lie, frame: Vec<u8>) -> Vec<Message> {
        let lies_now = self.rng.random_ratio(1, 12);
        let Ok(decoded) = TokenFrame::decode(&frame) else {
            return vec![Message::Binary(frame)];
        };
        let mut writer = TokenFrameWriter::new();
        let mut ends = Vec::new();
        for entry in decoded.entries() {
            let mut tokens: Vec<u32> = entry.tokens().collect();
            let mut offset = entry.offset;
            match lie {
                Lie::Tokens => tokens = tokens.repeat(3),
                Lie::Offsets if lies_now => offset += 3,
                Lie::EarlyEnd if lies_now => ends.push((entry.alias, entry.end_offset())),
                Lie::Text
                | Lie::Offsets
                | Lie::Duplicates
                | Lie::ForeignText
                | Lie::StolenTickets
                | Lie::ForgedTickets
                | Lie::StaleTickets
                | Lie::EarlyEnd
                | Lie::NoWindow
                | Lie::NeverStops => {}
            }
            writer.push(entry.alias, offset, entry.kind, &tokens, entry.bytes);
        }
        if lie == Lie::ForeignText
            && lies_now
            && let Some((alias, offset)) = self.foreign_alias(node)
        {
            writer.push(alias, offset, protocol::DeltaKind::Text, &[1], b"forged");
        }
        let bent = Message::Binary(writer.finish());
        let mut messages = vec![bent.clone()];
        if lie == Lie::Duplicates && lies_now {
            messages.push(bent);
        }
        for (alias, offset) in ends {
            let end = NodeToRelay::Completed {
                alias,
                offset: offset.unwrap_or(0),
                finish_reason: FinishReason::Stop,
                usage: Usage::default(),
            };
            messages.push(Message::Text(encode(&end)));
        }
        messages
    }

    /// A running attempt of another node, and where its stream stands.
    fn foreign_alias(&mut self, node: usize) -> Option<(Alias, u32)> {
        let foreign = self.judge.shadow().running_elsewhere(node);
        (!foreign.is_empty()).then(|| foreign[self.rng.random_range(0..foreign.len())])
    }
}
