//! Real processes that fetch: killed, limited, or two of them with one cache.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::files::{MIB, hash, settings, weights};
use crate::folder::Folder;
use crate::host::Host;
use model_files::{FileUrl, Progress, Settings, Wanted, fetch};

const URL: &str = "HELIOGRAPH_TEST_URL";
const CACHE: &str = "HELIOGRAPH_TEST_CACHE";

/// Not a test by itself: what the tests below start, kill and start again.
#[tokio::test]
#[ignore = "started by the tests that kill it"]
#[expect(clippy::print_stdout, reason = "the tests read it")]
async fn the_process_that_fetches() {
    let (Ok(url), Ok(cache)) = (std::env::var(URL), std::env::var(CACHE)) else {
        return;
    };
    let wanted = Wanted::of_url(&FileUrl::parse(&url).expect("an address"), None);
    let settings = Settings {
        cache: cache.into(),
        ..settings(&Folder::new())
    };
    let mut tell = |progress| {
        if let Progress::Received { have, .. } = progress {
            println!("have {have}");
        } else if let Progress::Begun { have, .. } = progress {
            println!("begun {have}");
        } else if progress == Progress::Waiting {
            println!("waiting for another");
        }
    };
    match fetch(&wanted, &settings, &mut tell).await {
        Ok(path) => println!("path {}", path.display()),
        Err(error) => println!("error {error}"),
    }
}

/// The same test binary, told to run the process above. `shell` runs before it, in the same process.
fn start(url: &str, cache: &Path, shell: &str) -> Child {
    Command::new("sh")
        .arg("-c")
        .arg(format!("{shell} exec \"$0\" \"$@\""))
        .arg(std::env::current_exe().expect("this binary"))
        .args(["--exact", "killed::the_process_that_fetches"])
        .args(["--ignored", "--nocapture"])
        .env(URL, url)
        .env(CACHE, cache)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("started")
}

/// Reads until a line begins so, and returns the rest of it. `test` says whether that is the one.
async fn line(child: &mut Child, begins: &str, test: impl Fn(&str) -> bool) -> String {
    let stdout = child.stdout.as_mut().expect("piped");
    let mut lines = BufReader::new(stdout).lines();
    let mut all = Vec::new();
    while let Some(line) = lines.next_line().await.expect("readable") {
        if let Some(rest) = line.strip_prefix(begins)
            && test(rest)
        {
            return rest.to_owned();
        }
        all.push(line);
    }
    panic!("no line begins with {begins:?} in {all:#?}");
}

#[tokio::test]
async fn killed_at_forty_percent_a_fetch_goes_on_with_the_rest_only() {
    const TOTAL: u64 = 10 * MIB;
    let host = Host::start().await;
    let bytes = weights(TOTAL);
    host.file("/model.gguf", &bytes, "\"one\"");
    let url = format!("{}#sha256={}", host.url("/model.gguf"), hash(&bytes));
    let folder = Folder::new();
    // It cannot come to its end before it is killed.
    host.gate(TOTAL / 2);
    let mut first = start(&url, folder.path(), "");
    let is_time = |have: &str| have.parse::<u64>().expect("a number") >= TOTAL * 2 / 5;
    line(&mut first, "have ", is_time).await;
    first.kill().await.expect("SIGKILL");
    assert!(
        !folder.path().join(hash(&bytes)).exists(),
        "a partial file has no name"
    );

    host.gate_anew(u64::MAX);
    let mut second = start(&url, folder.path(), "");
    let begun = line(&mut second, "begun ", |_| true).await;
    let kept: u64 = begun.parse().expect("a number");
    let mut rest = String::new();
    let stdout = second.stdout.as_mut().expect("piped");
    stdout.read_to_string(&mut rest).await.expect("readable");
    assert!(second.wait().await.expect("it ends").success());
    // It is written down at every MiB, and told of before that.
    assert!(kept >= TOTAL * 2 / 5 - 2 * MIB, "{kept}");
    assert_eq!(host.served(), TOTAL - kept);
    let path = folder.path().join(hash(&bytes)).join("model.gguf");
    assert_eq!(std::fs::read(path).expect("the file"), bytes);
}

#[tokio::test]
async fn of_two_processes_that_share_a_cache_one_fetches_and_the_other_says_that_it_waits() {
    let host = Host::start().await;
    let bytes = weights(4 * MIB);
    host.file("/model.gguf", &bytes, "\"one\"");
    let url = format!("{}#sha256={}", host.url("/model.gguf"), hash(&bytes));
    let folder = Folder::new();
    // The first is held up until the second waits.
    host.gate(MIB);
    let mut first = start(&url, folder.path(), "");
    line(&mut first, "begun ", |_| true).await;
    let mut second = start(&url, folder.path(), "");
    line(&mut second, "waiting ", |_| true).await;
    host.gate(u64::MAX);
    let path = line(&mut first, "path ", |_| true).await;
    let mut rest = String::new();
    let stdout = second.stdout.as_mut().expect("piped");
    stdout.read_to_string(&mut rest).await.expect("readable");
    assert!(rest.contains(&format!("path {path}\n")), "{rest}");
    assert!(!rest.contains("begun"), "it fetched too: {rest}");
    assert_eq!(std::fs::read(path).expect("the file"), bytes);
    for child in [&mut first, &mut second] {
        assert!(child.wait().await.expect("it ends").success());
    }
}

#[tokio::test]
async fn a_file_that_may_not_grow_so_large_is_told_with_both_numbers() {
    let host = Host::start().await;
    host.file("/model.gguf", &weights(8 * MIB), "\"one\"");
    let folder = Folder::new();
    // In blocks of 512 bytes in some shells and 1024 in others: less than 8 MiB in both.
    let limited = "trap '' XFSZ; ulimit -f 4096;";
    let mut child = start(&host.url("/model.gguf"), folder.path(), limited);
    let said = line(&mut child, "error ", |_| true).await;
    assert!(
        said.contains("8388608 bytes") && said.contains("free"),
        "{said}"
    );
    assert!(said.contains("too full"), "{said}");
    assert_eq!(host.served(), 0);
    drop(child.wait().await);
}
