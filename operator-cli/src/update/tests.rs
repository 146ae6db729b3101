//! What an update makes of what it finds.

use super::*;
use bollard::models::{ContainerConfig, HostConfig};
use std::collections::HashMap;

fn inspected(network: &str) -> ContainerInspectResponse {
    let text = |text: &str| text.to_owned();
    ContainerInspectResponse {
        config: Some(ContainerConfig {
            user: Some(text("10001:10001")),
            hostname: Some(text("heliograph-rig")),
            env: Some(vec![
                text("PATH=/old/image"),
                text("HELIOGRAPH_KEY=hgn-x"),
                text("HELIOGRAPH_METRICS_PORT=9464"),
            ]),
            cmd: Some(vec![text("--context"), text("4096")]),
            labels: Some(HashMap::from([
                (rigs::NAME.to_owned(), text("rig")),
                (text("org.opencontainers.image.version"), text("old")),
            ])),
            healthcheck: Some(HealthConfig {
                test: Some(vec![text("CMD"), text("old")]),
                interval: Some(5),
                ..HealthConfig::default()
            }),
            ..ContainerConfig::default()
        }),
        host_config: Some(HostConfig {
            readonly_rootfs: Some(true),
            cap_drop: Some(vec![text("ALL")]),
            network_mode: Some(text(network)),
            ..HostConfig::default()
        }),
        ..ContainerInspectResponse::default()
    }
}

#[test]
fn the_new_one_is_limited_as_the_old_one_and_takes_the_rest_from_its_own_image() {
    let body = successor(&inspected("heliograph"), "new:2").unwrap();
    assert_eq!(body.image.as_deref(), Some("new:2"));
    assert_eq!(body.user.as_deref(), Some("10001:10001"));
    assert_eq!(body.cmd.unwrap(), ["--context", "4096"]);
    let environment = body.env.unwrap();
    assert_eq!(
        environment,
        ["HELIOGRAPH_KEY=hgn-x", "HELIOGRAPH_METRICS_PORT=9464"]
    );
    let labels = body.labels.unwrap();
    assert_eq!(labels.len(), 1, "{labels:?}");
    let check = body.healthcheck.unwrap();
    assert_eq!((check.test, check.interval), (None, Some(5)));
    let host = body.host_config.unwrap();
    assert_eq!(
        (host.readonly_rootfs, host.cap_drop.unwrap()),
        (Some(true), vec!["ALL".to_owned()])
    );
}

#[test]
fn on_the_hosts_network_two_rigs_have_two_ports() {
    let body = successor(&inspected("host"), "new:2").unwrap();
    let environment = body.env.unwrap();
    let ports: Vec<&String> = environment
        .iter()
        .filter(|line| line.starts_with(METRICS_PORT))
        .collect();
    assert_eq!(ports.len(), 1);
    assert_ne!(ports[0], "HELIOGRAPH_METRICS_PORT=9464");
    assert_eq!(body.hostname, None, "it is the host's");
}

#[test]
fn one_that_is_not_up_comes_back_whatever_image_there_is() {
    for (is_up, is_same_image, is_forced, wanted) in [
        (false, true, false, true),
        (false, false, false, true),
        (true, true, false, false),
        (true, true, true, true),
        (true, false, false, true),
    ] {
        assert_eq!(is_replaced(is_up, is_same_image, is_forced), wanted);
    }
}

#[test]
fn a_rig_counts_as_up_if_one_of_its_name_is() {
    use bollard::models::{ContainerState, ContainerStateStatusEnum as State};

    let rig = |name: &str, status| Rig {
        name: name.to_owned(),
        container: rigs::container_name(name),
        id: "1".to_owned(),
        inspected: ContainerInspectResponse {
            state: Some(ContainerState {
                status: Some(status),
                ..ContainerState::default()
            }),
            ..ContainerInspectResponse::default()
        },
    };
    let all = [
        rig("drained", State::EXITED),
        rig("cut-short", State::EXITED),
        rig("cut-short", State::RUNNING),
        rig("up", State::RUNNING),
    ];
    assert_eq!(
        by_name(&all),
        BTreeMap::from([("cut-short", true), ("drained", false), ("up", true)])
    );
}
