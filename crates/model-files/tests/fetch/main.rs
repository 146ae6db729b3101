//! Files through a real HTTP host, and what is left when something dies, lies or is full.

#[cfg(test)]
mod files;
#[cfg(test)]
mod folder;
#[cfg(test)]
mod host;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod packages;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use files::{MIB, hash, leave_damaged, settings, told, wanted, weights};
use folder::Folder;
use host::{Answer, Host};
use model_files::{FetchError, Origin, Progress, Settings, Wanted, fetch};

#[tokio::test]
async fn a_file_comes_over_several_connections_and_only_once() {
    let host = Host::start().await;
    let bytes = weights(8 * MIB + 12);
    host.file("/a/model.gguf", &bytes, "\"one\"");
    let folder = Folder::new();
    let wanted = wanted(&host, "/a/model.gguf", Some(&hash(&bytes)));
    let (path, progress) = told(&wanted, &settings(&folder)).await;
    let path = path.expect("fetched");
    assert_eq!(path, folder.path().join(hash(&bytes)).join("model.gguf"));
    assert_eq!(std::fs::read(&path).expect("the file"), bytes);
    let begun = Progress::Begun {
        have: 0,
        total: Some(8 * MIB + 12),
        connections: 4,
    };
    assert_eq!(progress.first(), Some(&begun));
    assert_eq!(host.served(), 8 * MIB + 12);
    assert_eq!(
        folder.names(),
        [hash(&bytes), format!("{}.lock", hash(&bytes))]
    );

    let (again, progress) = told(&wanted, &settings(&folder)).await;
    assert_eq!(again.expect("it is there"), path);
    assert_eq!((progress, host.served()), (vec![], 8 * MIB + 12));
}

#[tokio::test]
async fn a_cache_that_holds_the_file_is_not_written_to() {
    let host = Host::start().await;
    let folder = Folder::new();
    let wanted = wanted(&host, "/model.gguf", None);
    let place = folder.path().join(wanted.folder());
    std::fs::create_dir(&place).expect("a folder");
    std::fs::write(place.join("model.gguf"), "weights").expect("written");
    let (path, _) = told(&wanted, &settings(&folder)).await;
    assert_eq!(path.expect("it is there"), place.join("model.gguf"));
    assert_eq!(folder.names(), [wanted.folder()]);

    // A file where the cache should be cannot be made a folder, whoever asks.
    let blocked = Settings::new(place.join("model.gguf"));
    let error = told(&wanted, &blocked).await.0.expect_err("unwritable");
    assert!(matches!(error, FetchError::Cache { .. }), "{error}");
}

#[tokio::test]
async fn a_corrupted_byte_is_refused_and_the_next_try_starts_clean() {
    let host = Host::start().await;
    let good = weights(4 * MIB);
    let mut bad = good.clone();
    bad[3_000_000] ^= 1;
    host.file("/model.gguf", &bad, "\"bad\"");
    let folder = Folder::new();
    let wanted = wanted(&host, "/model.gguf", Some(&hash(&good)));
    let error = told(&wanted, &settings(&folder))
        .await
        .0
        .expect_err("refused");
    let said = error.to_string();
    assert!(
        said.contains(&hash(&good)) && said.contains(&hash(&bad)),
        "{said}"
    );
    let written = format!("{}.refused.json", hash(&good));
    let left = [format!("{}.lock", hash(&good)), written.clone()];
    assert_eq!(folder.names(), left);

    host.file("/model.gguf", &good, "\"good\"");
    host.gate(u64::MAX);
    let path = told(&wanted, &settings(&folder)).await.0.expect("fetched");
    assert_eq!(std::fs::read(path).expect("the file"), good);
    assert_eq!(host.served(), 4 * MIB);
    assert!(!folder.path().join(written).exists());
}

#[tokio::test]
async fn a_wrong_file_is_fetched_once_until_its_host_changes_it_or_somebody_says_so() {
    let host = Host::start().await;
    let good = weights(2 * MIB);
    let bad: Vec<u8> = good.iter().rev().copied().collect();
    for knows_ranges in [true, false] {
        host.knows_ranges.store(knows_ranges, Ordering::SeqCst);
        host.file("/model.gguf", &bad, "\"bad\"");
        let folder = Folder::new();
        let wanted = wanted(&host, "/model.gguf", Some(&hash(&good)));
        let once_more = async || {
            host.gate(u64::MAX);
            let (result, _) = told(&wanted, &settings(&folder)).await;
            (result.expect_err("refused"), host.served())
        };
        let (error, _) = once_more().await;
        assert!(matches!(error, FetchError::WrongHash { .. }), "{error}");
        let (error, served) = once_more().await;
        let FetchError::KnownWrong { path, .. } = &error else {
            panic!("{error}");
        };
        // Without ranges the question itself brings what the system has room for.
        assert!(served == 0 || !knows_ranges, "{served} bytes were fetched");
        assert!(error.to_string().contains(&hash(&bad)) && error.is_lasting());

        std::fs::remove_file(path).expect("removed");
        let (error, _) = once_more().await;
        assert!(matches!(error, FetchError::WrongHash { .. }), "{error}");
        host.file("/model.gguf", &bad, "\"still bad\"");
        let (error, _) = once_more().await;
        assert!(matches!(error, FetchError::WrongHash { .. }), "{error}");
    }
}

#[tokio::test]
async fn what_was_damaged_here_between_two_tries_is_fetched_once_more_and_the_host_is_not_blamed() {
    let host = Host::start().await;
    let good = weights(4 * MIB);
    host.file("/model.gguf", &good, "\"one\"");
    let folder = Folder::new();
    let settings = settings(&folder);
    let wanted = wanted(&host, "/model.gguf", Some(&hash(&good)));
    leave_damaged(&host, &wanted, &settings).await;
    let (path, progress) = told(&wanted, &settings).await;
    let path = path.expect("fetched");
    assert_eq!(std::fs::read(path).expect("the file"), good);
    let discarded = progress.iter().filter(|said| **said == Progress::Discarded);
    assert_eq!(discarded.count(), 1);
    assert!(host.served() > 4 * MIB, "once more from the start");
    let begun = |said: &&Progress| matches!(said, Progress::Begun { .. });
    let begun: Vec<&Progress> = progress.iter().filter(begun).collect();
    assert!(
        matches!(
            begun[..],
            [
                Progress::Begun { have: 1.., .. },
                Progress::Begun { have: 0, .. }
            ]
        ),
        "{begun:?}"
    );
    let refused = folder.path().join(format!("{}.refused.json", hash(&good)));
    assert!(!refused.exists());
}

#[tokio::test]
async fn a_file_that_is_wrong_there_as_well_is_refused_after_the_second_fetch_and_remembered() {
    let host = Host::start().await;
    let good = weights(4 * MIB);
    let bad: Vec<u8> = good.iter().rev().copied().collect();
    host.file("/model.gguf", &bad, "\"bad\"");
    let folder = Folder::new();
    let settings = settings(&folder);
    let wanted = wanted(&host, "/model.gguf", Some(&hash(&good)));
    leave_damaged(&host, &wanted, &settings).await;
    let error = told(&wanted, &settings).await.0.expect_err("refused");
    // What is told is the hash of the host's file, not of the mixture.
    assert!(
        matches!(&error, FetchError::WrongHash { found, .. } if *found == hash(&bad)),
        "{error}"
    );
    let served = host.served();
    assert!(served > 4 * MIB, "{served}");
    let error = told(&wanted, &settings).await.0.expect_err("refused");
    assert!(matches!(error, FetchError::KnownWrong { .. }), "{error}");
    assert_eq!(host.served(), served);
}

#[tokio::test]
async fn a_file_that_changes_between_two_tries_is_fetched_anew() {
    let host = Host::start().await;
    host.file("/model.gguf", &weights(4 * MIB), "\"old\"");
    let folder = Folder::new();
    let wanted = wanted(&host, "/model.gguf", None);
    host.gate(2 * MIB);
    let mut have = 0;
    let settings = settings(&folder);
    let stop = tokio::sync::Notify::new();
    let mut tell = |progress| {
        if let Progress::Saved { have: saved } = progress {
            have = saved;
            stop.notify_one();
        }
    };
    tokio::select! {
        _ = fetch(&wanted, &settings, &mut tell) => panic!("it cannot end"),
        () = stop.notified() => {}
    }
    assert!(have >= MIB);

    let new: Vec<u8> = weights(4 * MIB).into_iter().rev().collect();
    host.file("/model.gguf", &new, "\"new\"");
    host.gate_anew(u64::MAX);
    let (path, progress) = told(&wanted, &settings).await;
    assert_eq!(
        std::fs::read(path.expect("fetched")).expect("the file"),
        new
    );
    assert_eq!(progress[0], Progress::Discarded);
    assert_eq!(host.served(), 4 * MIB);
}

#[tokio::test]
async fn a_host_without_ranges_serves_all_the_same() {
    let host = Host::start().await;
    host.knows_ranges.store(false, Ordering::SeqCst);
    let bytes = weights(3 * MIB);
    host.file("/model.gguf", &bytes, "\"one\"");
    host.breaks.store(2, Ordering::SeqCst);
    let folder = Folder::new();
    let wanted = wanted(&host, "/model.gguf", Some(&hash(&bytes)));
    let (path, progress) = told(&wanted, &settings(&folder)).await;
    assert_eq!(
        std::fs::read(path.expect("fetched")).expect("the file"),
        bytes
    );
    let begun = Progress::Begun {
        have: 0,
        total: Some(3 * MIB),
        connections: 1,
    };
    assert_eq!(progress.first(), Some(&begun));
    assert!(
        progress
            .iter()
            .any(|told| matches!(told, Progress::Retrying { .. }))
    );
}

#[tokio::test]
async fn broken_connections_and_busy_hosts_are_tried_again() {
    let host = Host::start().await;
    let bytes = weights(6 * MIB);
    host.file("/model.gguf", &bytes, "\"one\"");
    host.busy.store(3, Ordering::SeqCst);
    host.breaks.store(5, Ordering::SeqCst);
    let folder = Folder::new();
    let wanted = wanted(&host, "/model.gguf", Some(&hash(&bytes)));
    let (path, _) = told(&wanted, &settings(&folder)).await;
    assert_eq!(
        std::fs::read(path.expect("fetched")).expect("the file"),
        bytes
    );
    // What a broken connection had brought is not asked for twice.
    assert_eq!(host.served(), 6 * MIB);
}

#[tokio::test]
async fn a_host_that_stays_busy_is_given_up_and_a_refusal_at_once() {
    let host = Host::start().await;
    let folder = Folder::new();
    host.answer("/busy.gguf", Answer::Status(503));
    let (result, progress) = told(&wanted(&host, "/busy.gguf", None), &settings(&folder)).await;
    let said = result.expect_err("given up").to_string();
    assert!(said.contains("4 times") && said.contains("503"), "{said}");
    assert_eq!(progress.len(), 3, "{progress:?}");

    host.answer("/gated.gguf", Answer::Status(403));
    let (result, progress) = told(&wanted(&host, "/gated.gguf", None), &settings(&folder)).await;
    let said = result.expect_err("refused").to_string();
    assert!(
        said.contains("403") && said.contains("--model-file"),
        "{said}"
    );
    assert_eq!(progress, []);
}

#[tokio::test]
async fn redirects_are_followed_a_few_times_and_never_to_where_others_could_change_the_file() {
    let host = Host::start().await;
    let bytes = weights(MIB);
    host.file("/model.gguf", &bytes, "\"one\"");
    host.answer("/there", Answer::Redirect(host.url("/model.gguf")));
    host.answer("/round", Answer::Redirect(host.url("/round")));
    host.answer(
        "/away",
        Answer::Redirect("http://192.0.2.1/model.gguf".to_owned()),
    );
    let folder = Folder::new();
    let good = wanted(&host, "/there", Some(&hash(&bytes)));
    assert!(told(&good, &settings(&folder)).await.0.is_ok());
    // An address may be signed: nobody else is told where a request comes from.
    assert_eq!(host.referers.load(Ordering::SeqCst), 0);
    for (path, why) in [("/round", "too many"), ("/away", "without TLS")] {
        let (result, _) = told(&wanted(&host, path, None), &settings(&folder)).await;
        let said = result.expect_err("refused").to_string();
        assert!(said.contains(why), "{said}");
    }
}

#[tokio::test]
async fn a_file_of_another_size_than_the_catalogs_is_not_even_begun() {
    let host = Host::start().await;
    host.file("/model.gguf", &weights(2 * MIB), "\"one\"");
    let folder = Folder::new();
    let wanted = Wanted {
        bytes: Some(2 * MIB + 1),
        ..wanted(&host, "/model.gguf", None)
    };
    let error = told(&wanted, &settings(&folder))
        .await
        .0
        .expect_err("refused");
    assert!(matches!(error, FetchError::WrongSize { .. }), "{error}");
    assert_eq!(host.served(), 0);
}

#[tokio::test]
async fn a_disk_that_is_too_small_is_told_before_anything_is_fetched() {
    let Some(folder) = Folder::with_disk(4 * MIB) else {
        return;
    };
    let host = Host::start().await;
    host.file("/model.gguf", &weights(6 * MIB), "\"one\"");
    let settings = Settings {
        reserve_bytes: MIB,
        ..settings(&folder)
    };
    let (result, _) = told(&wanted(&host, "/model.gguf", None), &settings).await;
    let error = result.expect_err("too small");
    let FetchError::DiskFull { needed, free, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((needed, free), (7 * MIB, 4 * MIB));
    let said = error.to_string();
    assert!(
        said.contains("7340032 bytes") && said.contains("4194304 bytes"),
        "{said}"
    );
    assert_eq!(host.served(), 0);
}

#[tokio::test]
async fn a_file_of_unknown_size_leaves_the_reserve_free() {
    let Some(folder) = Folder::with_disk(8 * MIB) else {
        return;
    };
    let host = Host::start().await;
    host.knows_ranges.store(false, Ordering::SeqCst);
    host.says_length.store(false, Ordering::SeqCst);
    host.file("/model.gguf", &weights(12 * MIB), "\"one\"");
    let settings = Settings {
        reserve_bytes: 2 * MIB,
        ..settings(&folder)
    };
    let (result, progress) = told(&wanted(&host, "/model.gguf", None), &settings).await;
    let error = result.expect_err("too small");
    assert!(matches!(error, FetchError::DiskFull { .. }), "{error}");
    let mut most = 0;
    for told in progress {
        if let Progress::Received { have, .. } = told {
            most = have;
        }
    }
    assert!((3 * MIB..=6 * MIB).contains(&most), "{most}");
}

#[tokio::test]
async fn a_file_of_unknown_size_is_taken_up_to_a_limit() {
    let host = Host::start().await;
    host.knows_ranges.store(false, Ordering::SeqCst);
    host.says_length.store(false, Ordering::SeqCst);
    let bytes = weights(3 * MIB);
    host.file("/model.gguf", &bytes, "\"one\"");
    let folder = Folder::new();
    let up_to = |max: u64| Settings {
        unknown_bytes_max: max,
        ..settings(&folder)
    };
    let wanted = wanted(&host, "/model.gguf", None);
    let error = told(&wanted, &up_to(3 * MIB - 1)).await.0;
    let Err(FetchError::TooLong { max, .. }) = error else {
        panic!("{error:?}");
    };
    assert_eq!(max, 3 * MIB - 1);
    assert_eq!(folder.names(), [format!("{}.lock", wanted.folder())]);
    let path = told(&wanted, &up_to(3 * MIB)).await.0.expect("fetched");
    assert_eq!(std::fs::read(path).expect("the file"), bytes);
}

#[tokio::test]
async fn addresses_that_no_operator_wrote_are_checked_like_his_own() {
    let host = Host::start().await;
    let folder = Folder::new();
    let wanted = Wanted {
        origin: Origin::Url("http://192.0.2.1/model.gguf".to_owned()),
        ..wanted(&host, "/model.gguf", None)
    };
    let error = told(&wanted, &settings(&folder)).await.0;
    assert!(
        matches!(error, Err(FetchError::NotTrusted { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_disk_that_fills_in_between_is_told_and_what_was_fetched_is_used_later() {
    let Some(folder) = Folder::with_disk(12 * MIB) else {
        return;
    };
    let host = Host::start().await;
    let bytes = weights(8 * MIB);
    host.file("/model.gguf", &bytes, "\"one\"");
    let wanted = wanted(&host, "/model.gguf", Some(&hash(&bytes)));
    let settings = settings(&folder);
    let other = folder.path().join("somebody-elses");
    host.gate(2 * MIB);
    let opened = Arc::clone(&host);
    let mut have = 0;
    let mut tell = |progress| {
        if let Progress::Received { have: now, .. } = progress {
            have = now;
            if now == 2 * MIB {
                // Eight of twelve are now somebody else's.
                std::fs::write(&other, weights(8 * MIB)).expect("there is room");
                opened.gate(u64::MAX);
            }
        }
    };
    let error = fetch(&wanted, &settings, &mut tell)
        .await
        .expect_err("full");
    let FetchError::DiskFull { needed, free, .. } = error else {
        panic!("{error}");
    };
    assert!(needed >= 4 * MIB && free < needed, "{needed} {free}");
    assert!(!folder.path().join(hash(&bytes)).exists());

    std::fs::remove_file(&other).expect("removed");
    host.gate_anew(u64::MAX);
    let (path, progress) = told(&wanted, &settings).await;
    assert_eq!(
        std::fs::read(path.expect("fetched")).expect("the file"),
        bytes
    );
    let Some(Progress::Begun { have: kept, .. }) = progress.first() else {
        panic!("{progress:?}");
    };
    assert!(*kept >= MIB, "{kept}");
    assert_eq!(host.served(), 8 * MIB - kept);
}
