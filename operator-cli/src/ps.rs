//! `ps`: which nodes are on this machine, and how they are.

use anyhow::Result;
use serde_json::{Value, json};

use crate::rigs::{self, GPU, MODEL, Rig};
use crate::voice::{Voice, table};
use crate::{engine, health as ends};

/// Lists them.
pub(crate) async fn run(voice: Voice) -> Result<()> {
    let docker = engine::connect().await?;
    let all = rigs::all(&docker).await?;
    let values: Vec<Value> = all.iter().map(value).collect();
    let text = if all.is_empty() {
        rigs::NONE.to_owned()
    } else {
        let head = ["NAME", "STATE", "HEALTH", "GPU", "MODEL", "IMAGE"].map(str::to_owned);
        let rows: Vec<Vec<String>> = std::iter::once(head.to_vec())
            .chain(all.iter().map(row))
            .collect();
        let why = all.iter().filter_map(|rig| {
            let says = rig.broken().or_else(|| rig.waiting())?;
            Some(format!("\n{}: {says}", called(rig)))
        });
        table(&rows) + &why.collect::<String>()
    };
    voice.result(&json!({ "rigs": values }), &text);
    Ok(())
}

fn row(rig: &Rig) -> Vec<String> {
    let state = if rig.is_up() || rig.state() == "created" {
        rig.state().to_owned()
    } else {
        format!("{}: {}", rig.state(), ends::reason(rig))
    };
    vec![
        called(rig),
        state,
        health(rig).to_owned(),
        rig.label(GPU).unwrap_or("?").to_owned(),
        rig.label(MODEL).unwrap_or("-").to_owned(),
        rig.image().to_owned(),
    ]
}

/// One word; what the rig says of itself goes before what Docker makes of it.
fn health(rig: &Rig) -> &'static str {
    if rig.broken().is_some() {
        "broken"
    } else if rig.waiting().is_some() {
        "waiting"
    } else {
        rig.health()
    }
}

/// The name, and what an update that was cut short left of it.
fn called(rig: &Rig) -> String {
    let container = rig
        .container
        .strip_prefix("heliograph-")
        .unwrap_or(&rig.container);
    if container == rig.name {
        rig.name.clone()
    } else {
        format!("{} ({container})", rig.name)
    }
}

fn value(rig: &Rig) -> Value {
    json!({
        "name": rig.name,
        "container": rig.container,
        "id": rig.id,
        "state": rig.state(),
        "health": rig.health(),
        "broken": rig.broken(),
        "health_says": rig.health_says(),
        "exit_code": rig.exit_code(),
        "restarts": rig.inspected.restart_count.unwrap_or(0),
        "gpu": rig.label(GPU),
        "model": rig.label(MODEL),
        "image": rig.image(),
        "image_id": rig.inspected.image,
        "started_at": rig.inspected.state.as_ref().and_then(|state| state.started_at.clone()),
    })
}
