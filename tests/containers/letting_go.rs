//! `drain` and `down`.

use anyhow::Result;
use serde_json::json;

use crate::program::Program;
use crate::{Scene, names};

impl Scene {
    /// A drained rig stays, stays drained until somebody names it, and says how it ended.
    pub(crate) async fn is_drained_and_comes_back(&self) -> Result<()> {
        let mut logs = Program::start(&self.engine, &["logs", "-f", "rig"])?;
        logs.next().await?;
        let drained = self.heliograph(&["drain"]).await?;
        assert_eq!(drained["event"], "drained", "{drained}");
        let (_, status) = logs.end().await?;
        assert!(status.success(), "a log ends with its container: {status}");
        let listed = self.heliograph(&["ps"]).await?;
        let rig = &listed["rigs"][0];
        assert_eq!(
            (&rig["state"], &rig["exit_code"]),
            (&json!("exited"), &json!(0)),
            "{listed}"
        );
        let skipped = self.heliograph(&["update"]).await?;
        assert_eq!(skipped["event"], "skipped", "{skipped}");
        assert_eq!(self.inspected().await?["State"]["Status"], "exited");
        let updated = self.heliograph(&["update", "rig"]).await?;
        assert_eq!(updated["event"], "updated", "{updated}");
        let after = self.inspected().await?;
        assert_eq!(after["State"]["Health"]["Status"], "healthy");
        self.expect_containers(&["heliograph-rig", "relay"]).await
    }

    pub(crate) async fn leaves_nothing(&self) -> Result<()> {
        let networks = self
            .engine
            .docker_says(&["network", "ls", "--format={{.Name}}"])
            .await?;
        assert!(names(&networks).contains(&"heliograph"), "{networks}");
        self.heliograph(&["down"]).await?;
        self.expect_containers(&["relay"]).await?;
        let networks = self
            .engine
            .docker_says(&["network", "ls", "--format={{.Name}}"])
            .await?;
        assert_eq!(names(&networks), ["bridge", "host", "none"]);
        // What was downloaded is kept until somebody says otherwise.
        let list = ["volume", "ls", "--format={{.Name}}"];
        let volumes = self.engine.docker_says(&list).await?;
        assert_eq!(names(&volumes), ["heliograph-models", "store"]);
        self.heliograph(&["down", "--volumes"]).await?;
        let volumes = self.engine.docker_says(&list).await?;
        assert_eq!(names(&volumes), ["store"], "the relay's only");
        let listed = self.heliograph(&["ps"]).await?;
        assert_eq!(listed["rigs"], json!([]));
        let relay = self.engine.docker_says(&["logs", "relay"]).await?;
        self.expect_no_key(&relay)
    }
}
