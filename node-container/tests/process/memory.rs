//! The memory that is reckoned beforehand against what llama.cpp then takes, and models that are named in other ways.

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use node_container::engine::llama::CacheType;
use node_container::models::{Room, need_of_files};
use protocol::NodeToRelay;

use crate::relay::{Relay, model_file};
use crate::rig::{KEY, exit_code, log_file, rig, rig_without_model, signal};

/// Where Gemma 3 270M lies, whose layers mostly have a sliding window.
const GEMMA: &str = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818";

/// Bytes of all buffers in llama.cpp's log: the model's, and those of the last context (short-lived ones may have been
/// made before, to find out what is fast).
fn buffers(log: &str) -> u64 {
    let last = log.rfind("n_ctx_seq ").expect("a context was made");
    // Written with two places behind the point.
    let hundredths = |line: &str| -> Option<u64> {
        let (_, size) = line.split_once(" buffer size =")?;
        let number = size.trim_start().split(' ').next()?;
        number.replace('.', "").parse().ok()
    };
    let lines = |text: &str, of_model: bool| -> u64 {
        text.lines()
            .filter(|line| line.contains(" model buffer size") == of_model)
            .filter_map(hundredths)
            .sum()
    };
    let (model, context) = (lines(log, true), lines(&log[last..], false));
    assert!(model > 0 && context > 0);
    (model + context) * (1 << 20) / 100
}

/// Runs the rig with this file until it says hello, and compares.
async fn compare(name: &str, file: &Path, more: &[&str], room: Room) {
    let relay = Relay::bind().await;
    let log = log_file(name);
    let mut command = rig(&relay, &log);
    command.arg("--model-file").arg(file).args(more);
    command.args(["--slots", &room.slots.to_string()]);
    let context = room.context_tokens.expect("given").to_string();
    command.args(["--context", &context]);
    let cached = room.cached_conversations.to_string();
    command.args(["--cached-conversations", &cached]);
    let batch = room.prompt_batch.expect("given").to_string();
    command.args(["--batch", &batch]);
    let cache_type = match room.cache_type {
        CacheType::F16 => "f16",
        CacheType::Q8 => "q8_0",
    };
    command.args(["--cache-type", cache_type]);
    let child = command.env("RUST_LOG", "info").spawn().expect("rig starts");
    let mut connection = relay.accept(Some(KEY)).await;
    connection.message().await;
    signal(&child, Signal::SIGKILL);
    exit_code(child).await;
    let text = std::fs::read_to_string(&log).expect("the log");
    let used = buffers(&text);
    let (need, _) = need_of_files(file, None, room).expect("a header");
    let off = need.total().abs_diff(used);
    assert!(
        off <= used / 10,
        "{name}: reckoned {need:?}, together {}, but llama.cpp took {used}",
        need.total()
    );
    std::fs::remove_file(log).expect("removed");
}

#[tokio::test]
async fn what_a_model_needs_is_known_within_a_tenth() {
    for (slots, context) in [(1, 512), (2, 8192), (8, 2048)] {
        let room = Room {
            slots,
            context_tokens: Some(context),
            cached_conversations: 4,
            prompt_batch: Some(512),
            cache_type: CacheType::F16,
        };
        compare("memory", &model_file(), &[], room).await;
    }
}

#[tokio::test]
#[expect(
    clippy::print_stderr,
    reason = "who runs the tests hears what was left out"
)]
async fn what_a_model_with_a_sliding_window_needs_is_known_within_a_tenth() {
    let folder = model_file();
    let folder = folder.parent().and_then(Path::parent).expect("a cache");
    let Some(file) = first_file(&folder.join(GEMMA)) else {
        // Its licence has terms to accept, so nothing fetches it unasked.
        eprintln!("skipped: Gemma 3 270M is not in {}", folder.display());
        return;
    };
    let template = std::env::temp_dir().join(format!("heliograph-{}.jinja", std::process::id()));
    let text = "{% for message in messages %}{{ message.content }}{% endfor %}";
    std::fs::write(&template, text).expect("written");
    let flags = ["--chat-template", template.to_str().expect("plain")];
    for (slots, context, cached_conversations) in [(1, 2048, 0), (4, 4096, 4)] {
        let room = Room {
            slots,
            context_tokens: Some(context),
            cached_conversations,
            prompt_batch: Some(256),
            cache_type: CacheType::Q8,
        };
        compare("window", &file, &flags, room).await;
    }
    std::fs::remove_file(template).expect("removed");
}

fn first_file(folder: &Path) -> Option<PathBuf> {
    Some(std::fs::read_dir(folder).ok()?.next()?.ok()?.path())
}

#[tokio::test]
async fn a_path_is_offered_as_its_operator_says_and_refused_where_nothing_is_said() {
    let relay = Relay::bind().await;
    let log = log_file("named");
    let file = model_file();
    let start = |more: &[&str]| {
        let mut command = rig_without_model(&relay, &log);
        command.arg("--model").arg(&file).args(more);
        command
    };
    let child = start(&["--offer-as", "test-model"])
        .spawn()
        .expect("rig starts");
    let mut connection = relay.accept(Some(KEY)).await;
    let NodeToRelay::Hello { models, .. } = connection.message().await else {
        panic!("expected hello");
    };
    assert_eq!(models[0].model, "test-model");
    signal(&child, Signal::SIGKILL);
    exit_code(child).await;

    let child = start(&[]).spawn().expect("rig starts");
    assert_eq!(exit_code(child).await, Some(1));
    let text = std::fs::read_to_string(&log).expect("the log");
    assert!(text.contains("--offer-as"), "{text}");
    std::fs::remove_file(log).expect("removed");
}

#[tokio::test]
async fn a_catalog_model_comes_from_the_cache_and_a_wrong_id_is_told_with_the_right_ones() {
    let relay = Relay::bind().await;
    let log = log_file("catalog");
    let cache = model_file();
    let cache = cache.parent().and_then(Path::parent).expect("a cache");
    let start = |model: &str| {
        let mut command = rig_without_model(&relay, &log);
        command.args(["--model", model]).arg("--cache").arg(cache);
        command
    };
    let child = start("smollm2-135m").spawn().expect("rig starts");
    let mut connection = relay.accept(Some(KEY)).await;
    let NodeToRelay::Hello { models, .. } = connection.message().await else {
        panic!("expected hello");
    };
    assert_eq!(models[0].model, "smollm2-135m");
    signal(&child, Signal::SIGKILL);
    exit_code(child).await;

    let child = start("smollm3").spawn().expect("rig starts");
    assert_eq!(exit_code(child).await, Some(1));
    let text = std::fs::read_to_string(&log).expect("the log");
    assert!(
        text.contains("no model smollm3") && text.contains("atlas-30b"),
        "{text}"
    );
    std::fs::remove_file(log).expect("removed");
}
