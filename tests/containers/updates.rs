//! `update`: what is newer takes over, what does not serve takes nobody's place, and being cut short leaves what serves.

use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use tests::{run, until};

use crate::load::{ASKERS, Load};
use crate::program::Program;
use crate::{Scene, VERSION};

impl Scene {
    /// The same tag, a newer image, and people who ask all the while.
    pub(crate) async fn is_renewed_under_load(&self) -> Result<()> {
        let before = self.inspected().await?;
        self.engine.build("rig-cpu", VERSION, "two").await?;
        let load = Load::begin(&self.api);
        until("everybody waits for an answer", || async {
            Ok((load.asking.load(Ordering::SeqCst) == ASKERS).then_some(()))
        })
        .await?;
        let mut update = Program::start(&self.engine, &["update", "rig"])?;
        let mut asking_at_the_drain = 0;
        let mut events = Vec::new();
        while let Some(event) = update.next().await? {
            if event["event"] == "draining" {
                asking_at_the_drain = load.asking.load(Ordering::SeqCst);
            }
            events.push(event["event"].as_str().unwrap_or("error").to_owned());
        }
        let (_, status) = update.end().await?;
        ensure!(status.success(), "update failed: {events:?}");
        assert_eq!(
            events.last().map(String::as_str),
            Some("updated"),
            "{events:?}"
        );
        assert!(
            asking_at_the_drain > 0,
            "nobody was asking as the old one drained"
        );
        let answers = load.end().await?;
        assert!(answers >= ASKERS, "{answers} answers");
        let after = self.inspected().await?;
        assert_ne!(before["Image"], after["Image"]);
        assert_ne!(before["Id"], after["Id"]);
        assert_eq!(
            before["HostConfig"]["Mounts"],
            after["HostConfig"]["Mounts"]
        );
        // The new one is locked in as the old one was.
        Box::pin(self.may_do_as_little_as_it_needs()).await?;
        let again = self.heliograph(&["update", "rig"]).await?;
        assert_eq!(again["event"], "unchanged", "{again}");
        Ok(())
    }

    /// An image that ends at once takes nobody's place.
    pub(crate) async fn outlives_a_broken_image(&self) -> Result<()> {
        let before = self.inspected().await?;
        let broken = self.image("broken", r#"["/bin/false"]"#).await?;
        for order in ["--side-by-side", "--in-place"] {
            let words = ["update", "rig", "--image", &broken, order];
            let output = run(&mut self.engine.heliograph(&words)).await?;
            assert!(!output.status.success(), "{output:?}");
            assert!(output.stderr.contains("the old one"), "{output:?}");
            let after = self.inspected().await?;
            assert_eq!(before["Id"], after["Id"], "{order}");
            assert_eq!(after["State"]["Health"]["Status"], "healthy", "{order}");
        }
        self.expect_containers(&["heliograph-rig", "relay"]).await
    }

    /// One that runs and runs and never serves takes nobody's place either.
    pub(crate) async fn outlives_an_image_that_gets_nowhere(&self) -> Result<()> {
        let before = self.inspected().await?;
        let hangs = self.image("hangs", r#"["sleep", "infinity"]"#).await?;
        let words = [
            "update",
            "rig",
            "--side-by-side",
            "--stall-seconds",
            "2",
            "--image",
            &hangs,
        ];
        let output = self.heliograph_fails(&words).await?;
        for part in ["gets nowhere", "the old one goes on"] {
            assert!(output.stderr.contains(part), "{output:?}");
        }
        let after = self.inspected().await?;
        assert_eq!(before["Id"], after["Id"]);
        self.expect_containers(&["heliograph-rig", "relay"]).await
    }

    /// Ctrl-C leaves the one that serves; so does the next update after one that had no time to.
    pub(crate) async fn outlives_updates_that_are_cut_short(&self) -> Result<()> {
        let before = self.inspected().await?;
        let hangs = format!("{}/rig-hangs:1", self.engine.registry());
        for (order, left) in [
            ("--side-by-side", "the old one goes on"),
            ("--in-place", "the old one was started again"),
        ] {
            let words = ["update", "rig", order, "--image", &hangs];
            let mut update = Program::start(&self.engine, &words)?;
            update.event("started").await?;
            update.signal(Signal::SIGINT)?;
            let (said, status) = update.end().await?;
            assert_eq!(status.code(), Some(130), "{said:?}");
            let error = said.last().map(|line| line["error"].to_string());
            assert!(
                error.as_deref().is_some_and(|error| error.contains(left)),
                "{said:?}"
            );
            let after = self.inspected().await?;
            assert_eq!(before["Id"], after["Id"]);
            assert_eq!(after["State"]["Health"]["Status"], "healthy");
            self.expect_containers(&["heliograph-rig", "relay"]).await?;
        }

        // The new one serves already and the old one ends, and nobody is there to take the one for the other.
        let mut update = Program::start(&self.engine, &["update", "rig", "--force"])?;
        update.event("draining").await?;
        update.signal(Signal::SIGKILL)?;
        update.end().await?;
        self.engine.docker_says(&["stop", "heliograph-rig"]).await?;
        let next = self
            .inspected_of("container", "heliograph-rig--next")
            .await?;
        assert_eq!(next["State"]["Health"]["Status"], "healthy");
        let settled = self.heliograph(&["update"]).await?;
        assert_eq!(settled["event"], "unchanged", "{settled}");
        let after = self.inspected().await?;
        assert_eq!(
            next["Id"], after["Id"],
            "the only one that served was removed"
        );
        self.expect_containers(&["heliograph-rig", "relay"]).await
    }

    /// An image like the rig's that runs something else.
    async fn image(&self, name: &str, entrypoint: &str) -> Result<String> {
        let rig = format!("{}/rig-cpu:{VERSION}", self.engine.registry());
        let reference = format!("{}/rig-{name}:1", self.engine.registry());
        let folder = self.engine.folder().join(name);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(
            folder.join("Dockerfile"),
            format!("FROM {rig}\nENTRYPOINT {entrypoint}\n"),
        )?;
        let folder = folder.display().to_string();
        let words = ["build", "--tag", &reference, &folder];
        self.engine.docker_says(&words).await?;
        Ok(reference)
    }
}
