//! Which crate may use which. Arrows point down; brains do not know each other; nothing that is deployed uses
//! something else that is deployed.

use anyhow::{Context, Result};
use serde_json::Value;

/// The layers, from the bottom. A crate may use any crate of a lower layer and none of its own.
const LAYERS: [(&str, &[&str]); 6] = [
    ("wire", &["protocol"]),
    (
        "data",
        &["catalog", "chat-format", "gguf", "gguf-writer", "sampling"],
    ),
    (
        "brains",
        &[
            "scheduler",
            "node-session",
            "client-session",
            "openai-api",
            "webgpu-engine",
        ],
    ),
    // Fetches what the catalog names; several deployables need it.
    ("files", &["model-files"]),
    (
        "deployables",
        &[
            "edge-relay",
            "node-container",
            "render-node",
            "browser-node",
            "operator-cli",
            "web",
        ],
    ),
    (
        "harness",
        &["simulator", "tests", "benches", "echo", "webgpu"],
    ),
];

/// What xtask may use: it is built first in every clone, so it stays light.
const XTASK_USES: &[&str] = &["catalog"];

fn layer(name: &str) -> Option<(usize, &'static str)> {
    LAYERS
        .iter()
        .enumerate()
        .find(|(_, (_, names))| names.contains(&name))
        .map(|(height, (layer, _))| (height, *layer))
}

/// Complaints about `cargo metadata --no-deps`.
pub(super) fn complaints(metadata: &str) -> Result<Vec<String>> {
    let metadata: Value = serde_json::from_str(metadata).context("cargo metadata")?;
    let packages = metadata
        .get("packages")
        .and_then(Value::as_array)
        .context("cargo metadata without packages")?;
    let mut complaints = Vec::new();
    for package in packages {
        let name = text(package, "name")?;
        let dependencies = package
            .get("dependencies")
            .and_then(Value::as_array)
            .context("a package without dependencies")?;
        for dependency in dependencies {
            // Only crates of this repository have a path.
            if dependency.get("path").is_some_and(|path| !path.is_null()) {
                complaints.extend(complaint(name, text(dependency, "name")?));
            }
        }
        if name != "xtask" && layer(name).is_none() {
            complaints.push(format!(
                "{name}: has no layer; give it one in xtask/src/tidy/arrows.rs, so that its arrows are checked"
            ));
        }
    }
    Ok(complaints)
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value
        .get(key)
        .and_then(Value::as_str)
        .with_context(|| format!("cargo metadata without `{key}`"))
}

fn complaint(from: &str, to: &str) -> Option<String> {
    if from == "xtask" {
        return (!XTASK_USES.contains(&to)).then(|| {
            format!("xtask -> {to}: run it as a program instead; xtask is built first in every clone and stays light")
        });
    }
    let (from_height, from_layer) = layer(from)?;
    let Some((to_height, to_layer)) = layer(to) else {
        return Some(format!(
            "{from} -> {to}: nothing may use {to}; move what is shared into crates/"
        ));
    };
    if to_height < from_height {
        return None;
    }
    let reason = if from_height != to_height {
        "arrows point down; move the shared types into crates/protocol"
    } else if from_layer == "deployables" {
        "two deployables meet on the wire only; put the shared part into a crate below both"
    } else {
        "brains do not know each other, so that each can be tested against any other; share through crates/protocol"
    };
    Some(format!(
        "{from} ({from_layer}) -> {to} ({to_layer}): {reason}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from: &str, to: &str) -> Vec<String> {
        let metadata = serde_json::json!({"packages": [{
            "name": from,
            "dependencies": [
                {"name": to, "path": format!("/clone/{to}")},
                {"name": "serde", "path": null},
            ],
        }]});
        complaints(&metadata.to_string()).unwrap()
    }

    #[test]
    fn arrows_that_point_down_are_fine() {
        assert!(check("edge-relay", "scheduler").is_empty());
        assert!(check("scheduler", "protocol").is_empty());
        assert!(check("tests", "web").is_empty());
        assert!(check("xtask", "catalog").is_empty());
    }

    #[test]
    fn arrows_up_and_sideways_are_refused_with_a_way_out() {
        for (from, to, way_out) in [
            ("protocol", "scheduler", "point down"),
            ("edge-relay", "node-container", "on the wire"),
            ("scheduler", "node-session", "brains"),
            ("client-session", "node-session", "brains"),
            ("xtask", "scheduler", "as a program"),
            ("tests", "xtask", "nothing may use"),
        ] {
            let complaints = check(from, to);
            assert!(
                complaints.iter().any(|text| text.contains(way_out)),
                "{from} -> {to}: {complaints:?}"
            );
        }
    }

    #[test]
    fn a_crate_without_a_layer_is_refused() {
        assert!(
            check("new-thing", "protocol")
                .iter()
                .any(|text| text.contains("no layer"))
        );
    }
}
