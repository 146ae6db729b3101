//! The memory that is reckoned beforehand against what llama.cpp then takes, and models that are named in other ways.

use std::path::Path;

use gguf_writer::bert::Bert;
use gguf_writer::seeded::Projector;
use model_files::header::read_encoder;
use model_files::need::picture_scratch;
use nix::sys::signal::Signal;
use node_container::engine::llama::CacheType;
use node_container::engine::reordered::Orders;
use node_container::models::{Room, need_of_files};
use protocol::{EmbedRequest, NodeToRelay, RelayToNode};
use tokio::process::Command;

use crate::relay::{Relay, found, model_file};
use crate::rig::{
    KEY, assign, exit_code, job_id, log_file, request, rig, rig_without_model, signal,
};

/// Where Gemma 3 270M lies, whose layers mostly have a sliding window.
const GEMMA: &str =
    "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818/gemma-3-270m-q4_k_m.gguf";

/// all-MiniLM-L6-v2; its tokenizer lies beside it.
const EMBEDDER: &str =
    "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e/model.safetensors";

/// Bytes of all buffers in llama.cpp's log: the model's, and those of the last contexts (short-lived ones may have been
/// made before, to find out what is fast).
fn buffers(log: &str, contexts: usize) -> u64 {
    let made = log.rmatch_indices("n_ctx_seq ").nth(contexts - 1);
    let (last, _) = made.expect("contexts were made");
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

/// The size in a line of the log, which has two places behind the point.
fn hundredths(line: &str) -> Option<u64> {
    let (_, size) = line.split_once(" buffer size =")?;
    let number = size.trim_start().split(' ').next()?;
    number.replace('.', "").parse().ok()
}

/// The rig with this file and this room.
fn rig_with(relay: &Relay, log: &Path, file: &Path, room: Room) -> Command {
    let mut command = rig(relay, log);
    command.arg("--model-file").arg(file);
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
    if room.has_vectors {
        command.args(["--embeddings", "mean"]);
    }
    let is_packed = room.orders == Orders::All;
    command.env("HELIOGRAPH_PACKED", if is_packed { "1" } else { "0" });
    command.env("RUST_LOG", "info");
    command
}

/// Runs the rig with this file until it says hello, and compares.
async fn compare(name: &str, file: &Path, more: &[&str], room: Room) {
    let relay = Relay::bind().await;
    let log = log_file(name);
    let mut command = rig_with(&relay, &log, file, room);
    let child = command.args(more).spawn().expect("rig starts");
    let mut connection = relay.accept(Some(KEY)).await;
    connection.message().await;
    signal(&child, Signal::SIGKILL);
    exit_code(child).await;
    let text = std::fs::read_to_string(&log).expect("the log");
    let used = buffers(&text, 1);
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
    for orders in [Orders::All, Orders::WithoutOurs] {
        for (slots, context) in [(1, 512), (2, 8192), (8, 2048)] {
            let room = Room {
                context_tokens: Some(context),
                orders,
                ..room(slots)
            };
            compare("memory", &model_file(), &[], room).await;
        }
    }
}

fn room(slots: u32) -> Room {
    Room {
        slots,
        context_tokens: Some(2048),
        cached_conversations: 4,
        prompt_batch: Some(512),
        cache_type: CacheType::F16,
        has_vectors: false,
        has_template: false,
        orders: Orders::All,
    }
}

/// Memory of a process that is no file's, in bytes.
fn anonymous(pid: u32) -> u64 {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(path).expect("it runs");
    let bytes = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse::<u64>().ok())
            .expect("the system says")
            << 10
    };
    bytes("RssAnon:") + bytes("VmSwap:")
}

#[tokio::test]
async fn a_rig_that_has_done_all_kinds_of_work_holds_what_was_reckoned() {
    let relay = Relay::bind().await;
    let log = log_file("worked");
    let room = Room {
        has_vectors: true,
        ..room(2)
    };
    let mut command = rig_with(&relay, &log, &model_file(), room);
    let child = command.spawn().expect("rig starts");
    let mut connection = relay.accept(Some(KEY)).await;
    connection.message().await;
    connection.welcome().await;
    assign(&mut connection, 1, request(&" sea".repeat(1500), 8)).await;
    connection.follow(1).await;
    connection
        .send(&RelayToNode::Assign {
            job: job_id(2),
            attempt: 1,
            alias: 2,
            model: "test-model".to_owned(),
            lease_ms: 60_000,
            window_bytes: 64 << 10,
            ticket: "ticket 2".to_owned(),
            request: EmbedRequest {
                inputs: vec![" sea".repeat(2040)],
                dimensions: None,
            }
            .into(),
            answer: None,
            prefix: None,
        })
        .await;
    connection.follow(2).await;
    let used = anonymous(child.id().expect("it runs"));
    signal(&child, Signal::SIGKILL);
    exit_code(child).await;
    let (need, _) = need_of_files(&model_file(), None, room).expect("a header");
    // The file is mapped.
    let reckoned = need.total() - need.weights;
    let off = reckoned.abs_diff(used);
    assert!(
        off <= used / 10,
        "reckoned {need:?}, but for the file {reckoned}; the system says {used}"
    );
    std::fs::remove_file(log).expect("removed");
}

#[tokio::test]
async fn what_a_model_that_only_makes_vectors_needs_is_known_within_a_tenth() {
    let weights = found("HELIOGRAPH_TEST_EMBEDDER", EMBEDDER);
    let tokenizer = std::fs::read_to_string(weights.with_file_name("tokenizer.json"));
    let gguf = Bert::MINILM_L6
        .convert(
            &std::fs::read(weights).expect("readable"),
            &tokenizer.expect("readable"),
        )
        .expect("fits");
    let file = log_file("embedder").with_extension("gguf");
    std::fs::write(&file, gguf.to_bytes()).expect("written");
    let relay = Relay::bind().await;
    let log = log_file("vectors");
    let child = rig_with(&relay, &log, &file, room(2))
        .spawn()
        .expect("rig starts");
    let mut connection = relay.accept(Some(KEY)).await;
    connection.message().await;
    signal(&child, Signal::SIGKILL);
    exit_code(child).await;
    let text = std::fs::read_to_string(&log).expect("the log");
    let (need, how) = need_of_files(&file, None, room(2)).expect("a header");
    let tokens = how.vectors.expect("it makes vectors").batch_tokens;
    // At first there is room for a row of logits and a vector of 16 tokens; the first whole batch makes it larger, of
    // which llama.cpp says nothing.
    let later = u64::from(tokens - 16) * 4 * (30_522 + 384);
    let used = buffers(&text, 1) + later;
    assert!(
        need.total().abs_diff(used) <= used / 10,
        "reckoned {need:?}, together {}, but llama.cpp takes {used}",
        need.total()
    );
    assert_eq!((need.cache, need.scratch), (0, 0));
    std::fs::remove_file(file).expect("removed");
    std::fs::remove_file(log).expect("removed");
}

#[tokio::test]
async fn what_a_picture_encoder_computes_with_is_known_within_a_tenth() {
    for (number, (image_side, width, feed_forward)) in
        (0u32..).zip([(336, 256, 1024), (448, 512, 512), (224, 64, 1024)])
    {
        let shape = Projector {
            image_side,
            width,
            heads: width / 64,
            feed_forward,
            ..Projector::SMOLLM2
        };
        let projector = log_file(&format!("encoder-{number}")).with_extension("gguf");
        let weights = shape.write(7).expect("fits").to_bytes();
        std::fs::write(&projector, &weights).expect("written");
        let relay = Relay::bind().await;
        let log = log_file("encoder");
        let mut command = rig_with(&relay, &log, &model_file(), room(1));
        command.arg("--projector").arg(&projector);
        let child = command.spawn().expect("rig starts");
        let mut connection = relay.accept(Some(KEY)).await;
        connection.message().await;
        signal(&child, Signal::SIGKILL);
        exit_code(child).await;
        let text = std::fs::read_to_string(&log).expect("the log");
        // Its log says what it found first; later lines are the language model's.
        let line = text
            .lines()
            .find(|line| line.contains("reserve_compute_meta"))
            .expect("the encoder's buffer");
        let taken = hundredths(line).expect("a size") * (1 << 20) / 100;
        let encoder = read_encoder(&weights[..]).expect("a header");
        let scratch = picture_scratch(&encoder.expect("a known kind"));
        assert!(
            scratch.abs_diff(taken) <= taken / 10,
            "{shape:?}: reckoned {scratch}, but {taken} were taken"
        );
        let reckon = |projector| need_of_files(&model_file(), projector, room(1));
        let (seeing, _) = reckon(Some(&projector)).expect("a header");
        let (blind, _) = reckon(None).expect("a header");
        assert_eq!(
            seeing.weights,
            blind.weights + u64::try_from(weights.len()).expect("small")
        );
        assert!(seeing.scratch >= blind.scratch + scratch);
        std::fs::remove_file(projector).expect("removed");
        std::fs::remove_file(log).expect("removed");
    }
}

#[tokio::test]
async fn what_a_model_with_a_sliding_window_needs_is_known_within_a_tenth() {
    let file = found("HELIOGRAPH_GEMMA_FILE", GEMMA);
    let template = std::env::temp_dir().join(format!("heliograph-{}.jinja", std::process::id()));
    let text = "{% for message in messages %}{{ message.content }}{% endfor %}";
    std::fs::write(&template, text).expect("written");
    let flags = ["--chat-template", template.to_str().expect("plain")];
    for orders in [Orders::All, Orders::WithoutOurs] {
        for (slots, context, cached_conversations) in [(1, 2048, 0), (4, 4096, 4)] {
            let room = Room {
                context_tokens: Some(context),
                cached_conversations,
                prompt_batch: Some(256),
                cache_type: CacheType::Q8,
                orders,
                ..room(slots)
            };
            compare("window", &file, &flags, room).await;
        }
    }
    std::fs::remove_file(template).expect("removed");
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

    // One that nobody has, and one that is for browsers.
    for wrong in ["smollm3", "nimbus-8b"] {
        let child = start(wrong).spawn().expect("rig starts");
        assert_eq!(exit_code(child).await, Some(1));
        let text = std::fs::read_to_string(&log).expect("the log");
        assert!(
            text.contains(&format!(
                "no model {wrong} for rigs; it has smollm2-135m, atlas-30b"
            )),
            "{text}"
        );
    }
    std::fs::remove_file(log).expect("removed");
}
