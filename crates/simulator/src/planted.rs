//! Planted bugs: each is one that other networks have had, and each must be caught. Most are planted between the real brains and
//! the world; those that cannot be reached from there have a seam in the scheduler, behind its feature `planted-bugs`.

use protocol::{
    ErrorCode, FinishReason, NodeToRelay, RelayToClient, RelayToNode, Speed, Usage, decode, encode,
};
use scheduler::{Config, Output, PlantedBug};

/// Longer than any run.
const FOREVER_MS: u64 = 20 * 60 * 60 * 1_000;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// A continued answer begins again at its first byte.
    ContinuationRestarts,
    /// An acknowledgement releases more than was acknowledged.
    AcknowledgementReleasesTooMuch,
    /// A node without progress keeps the job.
    LeaseNeverEnds,
    /// A half-open connection stays registered.
    GhostNodeStays,
    /// Nodes take no notice of the window.
    WindowIgnored,
    /// A failure is told as an answer that is whole.
    ErrorToldAsStop,
    /// A ticket of another account is taken.
    ForeignTicketTaken,
    /// The slots of announced jobs are given away.
    AnnouncedSlotsGivenTwice,
    /// A node is not told to stop what it lost.
    CancelNotTold,
    /// A job whose client stays away is never stopped.
    GraceNeverEnds,
    /// One of the scheduler's own.
    Scheduler(PlantedBug),
}

impl Plant {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::ContinuationRestarts,
        Self::AcknowledgementReleasesTooMuch,
        Self::LeaseNeverEnds,
        Self::GhostNodeStays,
        Self::WindowIgnored,
        Self::ErrorToldAsStop,
        Self::ForeignTicketTaken,
        Self::AnnouncedSlotsGivenTwice,
        Self::CancelNotTold,
        Self::GraceNeverEnds,
        Self::Scheduler(PlantedBug::QueueNotRerun),
        Self::Scheduler(PlantedBug::CounterNotReset),
        Self::Scheduler(PlantedBug::StaleAttemptHeard),
        Self::Scheduler(PlantedBug::DeficitNotCharged),
    ];

    /// The relay's settings with this bug.
    pub(crate) fn bend_config(self, config: &mut Config) {
        match self {
            Self::LeaseNeverEnds => config.lease_ms = FOREVER_MS,
            Self::GhostNodeStays => config.node_silent_ms_max = FOREVER_MS,
            Self::GraceNeverEnds => config.grace_ms = FOREVER_MS,
            Self::Scheduler(bug) => config.planted = Some(bug),
            Self::ContinuationRestarts
            | Self::AcknowledgementReleasesTooMuch
            | Self::WindowIgnored
            | Self::ErrorToldAsStop
            | Self::ForeignTicketTaken
            | Self::AnnouncedSlotsGivenTwice
            | Self::CancelNotTold => {}
        }
    }

    /// What a node hears with this bug; whether it was changed.
    pub(crate) fn bend_heard(self, message: &mut RelayToNode) -> bool {
        match (self, message) {
            (Self::AcknowledgementReleasesTooMuch, RelayToNode::Acknowledge { offset, .. }) => {
                *offset = offset.saturating_add(16 << 10);
                true
            }
            (
                Self::WindowIgnored,
                RelayToNode::Assign { window_bytes, .. } | RelayToNode::Adopt { window_bytes, .. },
            ) => {
                *window_bytes = u32::MAX;
                true
            }
            (_, _) => false,
        }
    }

    /// What a node says with this bug.
    pub(crate) fn bend_said(self, text: String) -> String {
        if self != Self::AnnouncedSlotsGivenTwice {
            return text;
        }
        match decode::<NodeToRelay>(&text, usize::MAX) {
            Ok(NodeToRelay::Hello {
                key,
                name,
                class,
                software,
                slots,
                models,
                announces: _,
                machine,
            }) => encode(&NodeToRelay::Hello {
                key,
                name,
                class,
                software,
                slots,
                models,
                announces: 0,
                machine,
            }),
            Ok(_) | Err(_) => text,
        }
    }

    /// What the relay does with this bug.
    pub(crate) fn bend_output(self, output: Output) -> Option<Output> {
        match (self, output) {
            (
                Self::CancelNotTold,
                Output::ToNode {
                    message: RelayToNode::Cancel { .. },
                    ..
                },
            ) => None,
            (
                Self::ErrorToldAsStop,
                Output::ToClient {
                    socket,
                    message: RelayToClient::Failed { job, failure },
                },
            ) if !matches!(failure.code, ErrorCode::Cancelled | ErrorCode::UnknownJob) => {
                Some(Output::ToClient {
                    socket,
                    message: RelayToClient::Completed {
                        job,
                        offset: 0,
                        finish_reason: FinishReason::Stop,
                        usage: Usage::default(),
                        speed: Speed::default(),
                    },
                })
            }
            (_, output) => Some(output),
        }
    }
}
