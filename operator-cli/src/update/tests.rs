//! What an update makes of what it finds.

use super::*;
use bollard::models::{ContainerConfig, RestartPolicy, RestartPolicyNameEnum};
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
                text("HELIOGRAPH_ON_FAILURE=end"),
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
        [
            "HELIOGRAPH_KEY=hgn-x",
            "HELIOGRAPH_METRICS_PORT=9464",
            "HELIOGRAPH_ON_FAILURE=end"
        ]
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
    assert_eq!(host.restart_policy, None, "it is no older heliograph's");
}

#[test]
fn one_of_an_older_heliograph_gets_what_rigs_get_today() {
    for (gpu, image, needs_card) in [
        ("cuda", "registry.example/rig-cuda:2", true),
        ("rocm", "registry.example/rig-rocm:2", true),
        // The machine has a card; the image was given by hand.
        ("cuda", "registry.example/rig-cpu:2", false),
        ("cuda", "registry.example/mine:2", false),
        ("cpu", "registry.example/rig-cpu:2", false),
    ] {
        let mut old = inspected("heliograph");
        let config = old.config.as_mut().unwrap();
        let environment = config.env.as_mut().unwrap();
        environment.retain(|line| !line.starts_with(plan::ON_FAILURE));
        let labels = config.labels.as_mut().unwrap();
        labels.insert(rigs::GPU.to_owned(), gpu.to_owned());
        old.host_config.as_mut().unwrap().restart_policy = Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::ON_FAILURE),
            maximum_retry_count: Some(5),
        });
        let body = successor(&old, image).unwrap();
        let environment = body.env.unwrap();
        let has = |wanted: &str| environment.iter().filter(|line| *line == wanted).count();
        assert_eq!(has("HELIOGRAPH_ON_FAILURE=stay"), 1, "{environment:?}");
        assert_eq!(
            has("HELIOGRAPH_GPU=required"),
            usize::from(needs_card),
            "{gpu} {image}"
        );
        let policy = body.host_config.unwrap().restart_policy.unwrap();
        assert_eq!(policy, plan::restart_policy());
    }
}

#[test]
fn what_an_older_heliograph_was_told_of_the_card_stays() {
    let mut old = inspected("heliograph");
    let config = old.config.as_mut().unwrap();
    config.env = Some(vec!["HELIOGRAPH_GPU=auto".to_owned()]);
    let labels = config.labels.as_mut().unwrap();
    labels.insert(rigs::GPU.to_owned(), "cuda".to_owned());
    let environment = successor(&old, "rig-cuda:2").unwrap().env.unwrap();
    assert_eq!(
        environment,
        ["HELIOGRAPH_GPU=auto", "HELIOGRAPH_ON_FAILURE=stay"]
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
