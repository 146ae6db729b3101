//! What the scheduler costs: time for a dispatch and for a token frame, memory for a node and for a waiting job.
//! `cargo bench -p scheduler --bench cost -- --help` says what can be chosen; `cargo xtask bench scheduler` runs it.
//!
//! For each number of nodes two pools are driven, each with half of the jobs. In the one every second node is free, so
//! that a submitted job is placed at once; in the other all are busy and a thousand jobs of as many accounts wait, so
//! that each answer that ends lets the next job begin. A dispatch is the one input that does either, with all that is
//! said because of it, places in line included.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that reads its arguments, takes the time, and says what it took"
)]

mod load;
mod memory;
mod times;

use std::process::ExitCode;

use load::{Load, Measured};

const USAGE: &str = "usage: cost [--nodes N,N,...] [--jobs N] [--json]";

struct Options {
    nodes: Vec<u32>,
    jobs: u32,
    json: bool,
}

fn options() -> Option<Options> {
    let mut options = Options {
        nodes: vec![1_000, 10_000, 100_000],
        jobs: 1_000_000,
        json: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--json" => options.json = true,
            "--jobs" => options.jobs = words.next()?.parse().ok()?,
            "--nodes" => {
                let numbers = words.next()?;
                let numbers = numbers.split(',').map(str::parse);
                options.nodes = numbers.collect::<Result<_, _>>().ok()?;
            }
            // What cargo says to every benchmark.
            "--bench" => {}
            _ => return None,
        }
    }
    Some(options)
}

fn row(measured: &Measured) -> String {
    let Measured {
        nodes,
        jobs,
        node_bytes,
        placed,
        dequeued,
        queued,
        token_frame,
    } = measured;
    format!(
        "{nodes:>7} {jobs:>8} {node_bytes:>10} {placed:>16} {dequeued:>16} {queued:>16} {token_frame:>16}"
    )
}

fn json(measured: &Measured) -> String {
    let Measured {
        nodes,
        jobs,
        node_bytes,
        placed,
        dequeued,
        queued,
        token_frame,
    } = measured;
    format!(
        r#"{{"nodes":{nodes},"jobs":{jobs},"bytes_per_idle_node":{node_bytes},"dispatch_to_free_node_us":{},"dispatch_from_queue_us":{},"submit_to_queue_us":{},"token_frame_us":{}}}"#,
        placed.json(),
        dequeued.json(),
        queued.json(),
        token_frame.json(),
    )
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    println!(
        "{:>7} {:>8} {:>10} {:>16} {:>16} {:>16} {:>16}",
        "nodes", "jobs", "bytes", "dispatch to a", "dispatch from", "submission", "token"
    );
    println!(
        "{:>7} {:>8} {:>10} {:>16} {:>16} {:>16} {:>16}",
        "", "", "per node", "free node, µs", "the queue, µs", "to wait, µs", "frame, µs"
    );
    println!(
        "{:>26} {:>16} {:>16} {:>16} {:>16}",
        "", "mean / p99", "mean / p99", "mean / p99", "mean / p99"
    );
    let mut rows = Vec::new();
    for nodes in &options.nodes {
        let measured = Load::measure(*nodes, options.jobs);
        println!("{}", row(&measured));
        rows.push(json(&measured));
    }
    let waiting = load::waiting_job_bytes();
    println!(
        "a waiting job: {} bytes, {} of them its request",
        waiting.all, waiting.request
    );
    if options.json {
        println!(
            r#"{{"bench":"scheduler","rows":[{}],"bytes_per_queued_job":{},"request_bytes_of_it":{}}}"#,
            rows.join(","),
            waiting.all,
            waiting.request
        );
    }
    ExitCode::SUCCESS
}
