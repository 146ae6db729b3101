//! A relay, two rigs, and a line that can be cut.

use anyhow::{Context, Result};

use super::blow::Blow;
use super::user::Python;
use crate::{Line, Network, Relay, Rig};

/// Rigs that serve at the beginning of each round.
const RIGS: usize = 2;

/// Jobs at once on each.
const SLOTS: u32 = 1;

/// A rig that is stopped says nothing; the rounds need not wait as long for that as users would.
const LEASE_MS: &str = "3000";

/// Everything that runs. Fields are dropped in this order: the network checks that nobody is left.
#[derive(Debug)]
pub(super) struct Scene {
    rigs: Vec<Rig>,
    relay: Option<Relay>,
    pub(super) line: Line,
    /// A user of the official package who has nothing to ask.
    pub(super) python: Option<Box<Python>>,
    /// The name of the rig that is stopped.
    pub(super) stopped: Option<String>,
    /// What rigs that are gone have logged.
    logs: Vec<String>,
    started: u32,
    restarted: u32,
    pub(super) network: Network,
}

impl Scene {
    pub(super) async fn start(blow: Blow) -> Result<Self> {
        let network = match blow {
            Blow::PoolAborted | Blow::RigAndPool => Network::with_faults().await?,
            Blow::RigStopped => Network::start(&["--rigs", "0", "--lease-ms", LEASE_MS]).await?,
            Blow::RigKilled | Blow::RelayKilled | Blow::ClientCut | Blow::BothKilled => {
                Network::relay_only().await?
            }
        };
        let mut scene = Self {
            rigs: Vec::new(),
            relay: None,
            line: Line::start(&network).await?,
            python: None,
            stopped: None,
            logs: Vec::new(),
            started: 0,
            restarted: 0,
            network,
        };
        scene.fill_up().await?;
        Ok(scene)
    }

    /// Starts rigs until there are as many as there should be, and waits until the relay offers all their slots: so
    /// nobody's job runs any more, and no ghost is left.
    pub(super) async fn fill_up(&mut self) -> Result<()> {
        while self.rigs.len() < RIGS {
            self.started += 1;
            let name = format!("rig-{}", self.started);
            self.rigs.push(Rig::start(&self.network, &name, SLOTS)?);
        }
        let slots = u64::from(SLOTS) * u64::try_from(RIGS)?;
        self.network.free_slots(slots).await
    }

    /// The rig that answers.
    pub(super) fn busy_rig(&self) -> Option<&Rig> {
        self.rigs.iter().find(|rig| rig.is_busy())
    }

    pub(super) fn rig(&self, name: &str) -> Option<&Rig> {
        self.rigs.iter().find(|rig| rig.name == name)
    }

    pub(super) fn kill_busy_rig(&mut self) -> Result<()> {
        let at = self.rigs.iter().position(Rig::is_busy);
        let rig = self.rigs.remove(at.context("no rig is busy")?);
        let log = rig.log_file();
        drop(rig);
        self.logs.push(std::fs::read_to_string(log)?);
        Ok(())
    }

    /// Kills the relay and starts it again on the same port and storage.
    pub(super) async fn restart_relay(&mut self) -> Result<()> {
        match self.relay.take() {
            Some(relay) => relay.kill(),
            None => self.network.kill_relay()?,
        }
        self.restarted += 1;
        let name = format!("relay-{}", self.restarted);
        self.relay = Some(self.network.start_relay(&name).await?);
        Ok(())
    }

    /// What all rigs have logged, dead and alive.
    pub(super) fn logged(&self) -> String {
        let alive = self.rigs.iter().map(Rig::logged);
        self.logs
            .iter()
            .cloned()
            .chain(alive)
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Ends everything.
    pub(super) fn end(self) -> Result<()> {
        drop(self.rigs);
        drop(self.relay);
        // `demo` does not mind that its relay is gone: whoever asked for a ready file kills parts.
        self.network.end()
    }
}
