//! What goes wrong, and how everything is made whole again for the next round.

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::scene::Scene;

/// Who is struck in mid-answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// `kill -9` of the rig that answers.
    RigKilled,
    /// The rig that answers is stopped (`SIGSTOP`) until its job is over, then goes on (`SIGCONT`).
    RigStopped,
    /// `kill -9` of workerd, which starts again on the same port and storage.
    RelayKilled,
    /// The client's connection is cut.
    ClientCut,
    /// Only the pool ends, under an HTTP stream.
    PoolAborted,
    /// `kill -9` of the rig that answers and of workerd, together.
    BothKilled,
    /// `kill -9` of the rig that answers, and the end of the pool, together, under an HTTP stream.
    RigAndPool,
}

impl Blow {
    /// Whether a WebSocket user can be there: every time.
    pub const fn meets_sockets(self) -> bool {
        !matches!(self, Self::PoolAborted | Self::RigAndPool)
    }

    /// Whether an HTTP user can be there: its answer cannot outlive the Worker that serves it, nor its own connection.
    pub const fn meets_http(self) -> bool {
        matches!(
            self,
            Self::RigKilled | Self::RigStopped | Self::PoolAborted | Self::RigAndPool
        )
    }

    /// Strikes. What has to come back for the answer to go on is back when this returns.
    pub(super) async fn strike(self, scene: &mut Scene) -> Result<()> {
        match self {
            Self::RigKilled => scene.kill_busy_rig(),
            Self::RigStopped => {
                let rig = scene.busy_rig().context("no rig is busy")?;
                rig.signal(Signal::SIGSTOP)?;
                scene.stopped = Some(rig.name.clone());
                Ok(())
            }
            Self::RelayKilled => scene.restart_relay().await,
            Self::ClientCut => {
                scene.line.cut();
                Ok(())
            }
            Self::PoolAborted => scene.network.abort_pool().await,
            Self::RigAndPool => {
                scene.kill_busy_rig()?;
                scene.network.abort_pool().await
            }
            Self::BothKilled => {
                scene.kill_busy_rig()?;
                scene.restart_relay().await
            }
        }
    }

    /// Makes everything whole again. What was stopped must have lost its job by now, and must see that.
    pub(super) async fn mend(self, scene: &mut Scene) -> Result<()> {
        if let Some(name) = scene.stopped.take() {
            let rig = scene.rig(&name).context("the stopped rig")?;
            rig.signal(Signal::SIGCONT)?;
            // It finds that its job is no longer its own, and stops.
            crate::until("the rig lets go of its job", || async {
                Ok((!rig.is_busy()).then_some(()))
            })
            .await?;
        }
        scene.fill_up().await
    }
}
