//! What the images say of themselves, and what a container of one may do.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{Scene, VERSION};

impl Scene {
    /// Labels that registries and scanners read, the account, the health check, and the list of contents where the
    /// label says.
    pub(crate) async fn images_say_what_they_are(&self) -> Result<()> {
        for (target, container) in [("rig-cpu", "heliograph-rig"), ("relay", "relay")] {
            let reference = format!("{}/{target}:{VERSION}", self.engine.registry());
            let image = self.inspected_of("image", &reference).await?;
            let config = &image["Config"];
            let label = |name: &str| {
                config["Labels"][name]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            for name in ["title", "description", "licenses", "base.name"] {
                let text = label(&format!("org.opencontainers.image.{name}"));
                assert!(!text.is_empty(), "{target} has no {name}");
            }
            assert_eq!(label("org.opencontainers.image.version"), VERSION);
            assert_eq!(label("org.opencontainers.image.revision"), "one");
            assert_eq!(config["User"], "10001:10001", "{target}");
            let check = &config["Healthcheck"];
            assert_eq!(check["Test"][0], "CMD", "{target}: {check}");
            assert!(check["Interval"].as_u64() > Some(0), "{target}: {check}");
            let contents = label("network.heliograph.sbom");
            let words = ["exec", container, "cat", &contents];
            let text = self.engine.docker_says(&words).await?;
            let contents: Value = serde_json::from_str(&text)?;
            assert_eq!(contents["bomFormat"], "CycloneDX", "{target}");
            let components = contents["components"].as_array();
            let components = components.context("no list of components")?;
            assert!(!components.is_empty(), "{target} has no contents");
        }
        Ok(())
    }

    /// As the engine sees it, and as the process itself does.
    pub(crate) async fn may_do_as_little_as_it_needs(&self) -> Result<()> {
        let container = self.inspected().await?;
        let host = &container["HostConfig"];
        assert_eq!(host["ReadonlyRootfs"], json!(true));
        assert_eq!(host["CapDrop"], json!(["ALL"]));
        assert_eq!(host["CapAdd"], Value::Null);
        assert_eq!(host["SecurityOpt"], json!(["no-new-privileges:true"]));
        assert_eq!(host["Privileged"], json!(false));
        assert_eq!(container["Config"]["User"], "10001:10001");
        assert_eq!(host["RestartPolicy"]["Name"], "unless-stopped");
        assert_eq!(
            container["NetworkSettings"]["Ports"],
            json!({}),
            "nobody connects to a rig"
        );
        self.expect_no_key(&container["Config"]["Labels"].to_string())?;
        self.expect_no_key(&container["Args"].to_string())?;
        let status = self.inside(&["cat", "/proc/1/status"]).await?;
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(|rest| {
                rest.split_whitespace()
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            })
        };
        assert_eq!(line("Uid:").as_deref(), Some("10001"));
        assert_eq!(line("NoNewPrivs:").as_deref(), Some("1"));
        for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
            assert_eq!(line(set).as_deref(), Some("0000000000000000"), "{set}");
        }
        let writing = ["exec", "heliograph-rig", "touch", "/opt/heliograph/x"];
        assert!(
            !self.engine.docker(&writing).await?.status.success(),
            "the root can be written"
        );
        self.inside(&["touch", "/tmp/x", "/var/cache/heliograph/x"])
            .await?;
        let contents = self
            .inside(&["cat", "/opt/heliograph/contents.cdx.json"])
            .await?;
        assert!(
            contents.contains("pkg:cargo/llama-cpp-2@"),
            "the list of contents lacks llama.cpp"
        );
        Ok(())
    }
}
