//! What a rig's container may do, read back from what Docker is asked for.

use super::*;

const KEY: &str = "hgn-0123456789";

fn plan(gpu: Gpu) -> Plan {
    Plan {
        name: "rig".into(),
        image: "localhost/heliograph/rig-cpu:1".into(),
        gpu,
        needs_card: gpu != Gpu::Cpu,
        relay: "wss://relay.example".into(),
        key: key(),
        model: Some("smollm2-135m".into()),
        model_file: None,
        slots: Some(4),
        cpus: Some(2.5),
        memory: 8 << 30,
        drain_seconds: 45,
        network: rigs::NETWORK.into(),
        volume: rigs::VOLUME.into(),
        metrics_port: None,
        groups: Vec::new(),
        flags: vec!["--context".into(), "4096".into()],
    }
}

fn key() -> Secret {
    Secret::parse("hgn-", KEY, "a test").unwrap()
}

#[test]
fn the_container_can_do_as_little_as_it_needs_whatever_the_card() {
    for gpu in [Gpu::Cpu, Gpu::Cuda, Gpu::Rocm, Gpu::Vulkan] {
        let body = plan(gpu).container();
        assert_eq!(body.user.as_deref(), Some("10001:10001"));
        let host = body.host_config.unwrap();
        assert_eq!(host.readonly_rootfs, Some(true));
        assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
        assert_eq!(host.cap_add, None);
        assert_eq!(host.security_opt.unwrap(), ["no-new-privileges:true"]);
        assert_eq!(host.privileged, Some(false));
        assert!(host.pids_limit.unwrap() > 0 && host.memory.unwrap() > 0);
        assert_eq!(host.memory, host.memory_swap, "no swap");
        assert_eq!(
            (host.pid_mode, host.ipc_mode, host.userns_mode),
            (None, None, None)
        );
        assert_eq!(host.port_bindings, None, "nobody connects to a rig");
        assert_eq!(host.binds, None);
        let tmp = &host.tmpfs.unwrap()["/tmp"];
        assert!(tmp.contains("noexec") && tmp.contains("size="), "{tmp}");
    }
}

#[test]
fn a_rig_comes_back_with_its_machine_and_does_not_fail_in_a_loop() {
    let body = plan(Gpu::Cpu).container();
    let policy = body.host_config.unwrap().restart_policy.unwrap();
    assert_eq!(policy.name, Some(RestartPolicyNameEnum::UNLESS_STOPPED));
    assert_eq!(policy.maximum_retry_count, None);
    let stay = "HELIOGRAPH_ON_FAILURE=stay".to_owned();
    assert!(body.env.unwrap().contains(&stay));
}

#[test]
fn a_rig_that_needs_a_card_does_not_run_without_one() {
    for needs_card in [true, false] {
        let mut plan = plan(Gpu::Cuda);
        plan.needs_card = needs_card;
        let environment = plan.container().env.unwrap();
        let is_required = environment.contains(&"HELIOGRAPH_GPU=required".to_owned());
        assert_eq!(is_required, needs_card);
    }
}

#[test]
fn the_key_is_in_the_environment_and_nowhere_else() {
    let mut body = plan(Gpu::Cpu).container();
    let environment = body.env.take().unwrap();
    assert!(environment.contains(&format!("HELIOGRAPH_KEY={KEY}")));
    let rest = serde_json::to_string(&body).unwrap();
    assert!(!rest.contains(KEY), "{rest}");
    assert!(!format!("{:?}", plan(Gpu::Cpu)).contains(KEY));
}

#[test]
fn settings_reach_the_rig() {
    let body = plan(Gpu::Cpu).container();
    let environment = body.env.unwrap();
    for setting in [
        "HELIOGRAPH_RELAY=wss://relay.example",
        "HELIOGRAPH_MODEL=smollm2-135m",
        "HELIOGRAPH_SLOTS=4",
        "HELIOGRAPH_THREADS=2",
        "HELIOGRAPH_DRAIN_SECONDS=45",
        "HELIOGRAPH_METRICS_PORT=9464",
    ] {
        assert!(
            environment.iter().any(|line| line == setting),
            "{setting}: {environment:?}"
        );
    }
    assert_eq!(body.cmd.unwrap(), ["--context", "4096"]);
    // A machine that goes down waits for answers, too.
    assert!(body.stop_timeout.unwrap() > 45);
    assert_eq!(body.host_config.unwrap().nano_cpus, Some(2_500_000_000));
}

#[test]
fn each_card_gets_its_devices_and_no_others() {
    let of = |gpu| {
        let mut plan = plan(gpu);
        plan.groups = vec![44, 105];
        let host = plan.container().host_config.unwrap();
        let devices: Vec<String> = host
            .devices
            .unwrap_or_default()
            .into_iter()
            .filter_map(|device| device.path_on_host)
            .collect();
        (devices, host.device_requests.is_some(), host.group_add)
    };
    assert_eq!(of(Gpu::Cpu).0, Vec::<String>::new());
    assert!(of(Gpu::Cuda).1 && !of(Gpu::Cpu).1 && !of(Gpu::Vulkan).1);
    assert_eq!(of(Gpu::Vulkan).0, ["/dev/dri"]);
    assert_eq!(of(Gpu::Rocm).0, ["/dev/kfd", "/dev/dri"]);
    assert_eq!(of(Gpu::Rocm).2.unwrap(), ["44", "105"]);
}

#[test]
fn a_file_of_the_hosts_is_mounted_read_only_beside_the_cache() {
    let mut plan = plan(Gpu::Cpu);
    plan.model_file = Some("/home/me/model.gguf".into());
    let body = plan.container();
    let environment = body.env.unwrap();
    assert!(environment.contains(&"HELIOGRAPH_MODEL_FILE=/models/model.gguf".to_owned()));
    let mounts = body.host_config.unwrap().mounts.unwrap();
    let file = mounts
        .iter()
        .find(|mount| mount.typ == Some(MountType::BIND))
        .unwrap();
    assert_eq!(file.target.as_deref(), Some("/models/model.gguf"));
    assert_eq!(file.read_only, Some(true));
    let cache = mounts
        .iter()
        .find(|mount| mount.typ == Some(MountType::VOLUME))
        .unwrap();
    assert_eq!(cache.source.as_deref(), Some("heliograph-models"));
}

#[test]
fn loopback_is_explained_unless_the_network_is_the_hosts() {
    for url in [
        "ws://127.0.0.1:8787",
        "ws://127.1:8787",
        "ws://localhost:1",
        "ws://[::1]:8787/",
    ] {
        let error = relay(url, None).unwrap_err().to_string();
        assert!(error.contains("--network host"), "{error}");
        assert!(relay(url, Some("host")).is_ok());
    }
    assert_eq!(
        relay("wss://relay.example/", None).unwrap(),
        "wss://relay.example"
    );
    for (url, says) in [
        ("relay.example", "write it as"),
        ("ftp://x", "scheme"),
        ("wss://a:b@x", "--key-file"),
    ] {
        let error = relay(url, None).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_relay_on_the_host_can_be_named() {
    let mut plan = plan(Gpu::Cpu);
    assert_eq!(plan.container().host_config.unwrap().extra_hosts, None);
    plan.relay = "ws://host.docker.internal:8787".into();
    let hosts = plan.container().host_config.unwrap().extra_hosts.unwrap();
    assert_eq!(hosts, ["host.docker.internal:host-gateway"]);
}

#[test]
fn a_file_that_the_container_cannot_read_is_refused_before_anything_starts() {
    use std::os::unix::fs::PermissionsExt as _;

    let path = std::env::temp_dir().join(format!("heliograph-model-{}", std::process::id()));
    std::fs::write(&path, b"GGUF").unwrap();
    let allow = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
    allow(0o600).unwrap();
    let error = model_file(&path).unwrap_err().to_string();
    assert!(error.contains("chmod o+r"), "{error}");
    allow(0o604).unwrap();
    assert!(model_file(&path).unwrap().is_absolute());
    std::fs::remove_file(&path).unwrap();
    assert!(model_file(&path).is_err());
}
