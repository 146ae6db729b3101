//! Who is asking. Keys come in `Authorization` or a first frame, never in a URL; a page without a key is let in by
//! loopback alone, and only in open mode.

use sha2::{Digest, Sha256};
use worker::{Headers, Url};

use crate::config::{Access, AuthMode, is_loopback};

/// The account of everybody in open mode.
const LOCAL: &str = "local";

/// Headers by which proxies tell whom they speak for.
const FORWARDED: [&str; 5] = [
    "Forwarded",
    "Via",
    "X-Forwarded-For",
    "X-Real-IP",
    "CF-Connecting-IP",
];

/// What a request says about its sender.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// The host and port that the request was sent to.
    host: String,
    /// The page that sent it, where a browser did.
    origin: Option<String>,
    /// The bearer key, where there is one.
    key: Option<String>,
    /// Whether something passed the request on for somebody on another machine.
    is_forwarded: bool,
    /// Whether a browser says that another site's page sent it.
    is_cross_site: bool,
}

/// What a sender turns out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Known: the account's name.
    Known(String),
    /// A wrong key, or a page that may not ask.
    Refused(&'static str),
    /// Said nothing; a WebSocket may still say `hello`.
    Anonymous,
}

impl Claims {
    /// Reads a request's headers.
    pub(crate) fn of(url: &Url, headers: &Headers) -> Self {
        let header = |name| headers.get(name).ok().flatten();
        let host = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => String::new(),
        };
        Self {
            host,
            origin: header("Origin"),
            key: header("Authorization").map(|value| bearer(&value).to_owned()),
            is_forwarded: FORWARDED.iter().any(|name| {
                // Wrangler's own proxy names loopback here.
                header(name).is_some_and(|from| !is_loopback(from.trim()))
            }),
            is_cross_site: header("Sec-Fetch-Site").as_deref() == Some("cross-site"),
        }
    }

    /// Who asks for an answer.
    pub(crate) fn client(&self, access: &Access) -> Identity {
        if let Some(key) = &self.key {
            return client_of_key(access, key);
        }
        match access.mode {
            AuthMode::Keys => Identity::Anonymous,
            // A reverse proxy on this machine speaks to us by loopback for the whole internet.
            AuthMode::Open if !is_loopback(&self.host) || self.is_forwarded => Identity::Anonymous,
            AuthMode::Open if self.is_cross_site => {
                Identity::Refused("another site's page must send an API key")
            }
            // Another page in the same browser must not chat in this person's name, and a name that merely resolves to
            // loopback must not either: the origin has to be ours to the letter.
            AuthMode::Open
                if self
                    .origin
                    .as_deref()
                    .is_some_and(|origin| !self.is_own(origin)) =>
            {
                Identity::Refused("this page is not the relay's own; send an API key")
            }
            AuthMode::Open => Identity::Known(LOCAL.to_owned()),
        }
    }

    /// Who offers to answer. Nodes always need a key.
    pub(crate) fn node(&self, access: &Access) -> Identity {
        self.key
            .as_ref()
            .map_or(Identity::Anonymous, |key| node_of_key(access, key))
    }

    fn is_own(&self, origin: &str) -> bool {
        let authority = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        authority.is_some_and(|authority| authority == self.host && is_loopback(authority))
    }
}

/// Whose API key this is.
pub(crate) fn client_of_key(access: &Access, key: &str) -> Identity {
    account(
        &access.api_key_hashes,
        key,
        "wrong API key; check that it begins with hg- and is whole",
    )
}

/// Whose node key this is.
pub(crate) fn node_of_key(access: &Access, key: &str) -> Identity {
    account(
        &access.node_key_hashes,
        key,
        "wrong node key; check that it begins with hgn- and is whole",
    )
}

fn account(
    hashes: &std::collections::BTreeSet<String>,
    key: &str,
    refusal: &'static str,
) -> Identity {
    let hash = hex::encode(Sha256::digest(key.as_bytes()));
    if hashes.contains(&hash) {
        // Until accounts exist, a key is its own account; the hash's head names it without telling it.
        Identity::Known(format!("key-{}", hash.get(..12).unwrap_or_default()))
    } else {
        Identity::Refused(refusal)
    }
}

/// The key in an `Authorization` header; RFC 7235 lets the scheme be written in any case.
fn bearer(value: &str) -> &str {
    match value.split_once(' ') {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => key.trim(),
        Some(_) | None => value.trim(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(mode: AuthMode) -> Access {
        Access {
            mode,
            api_key_hashes: [hex::encode(Sha256::digest(b"hg-right"))].into(),
            node_key_hashes: [hex::encode(Sha256::digest(b"hgn-right"))].into(),
        }
    }

    fn claims(host: &str, origin: Option<&str>, key: Option<&str>) -> Claims {
        Claims {
            host: host.into(),
            origin: origin.map(Into::into),
            key: key.map(Into::into),
            ..Claims::default()
        }
    }

    #[test]
    fn open_mode_is_closed_to_what_a_proxy_passes_on_and_to_other_sites() {
        let open = access(AuthMode::Open);
        let forwarded = Claims {
            is_forwarded: true,
            ..claims("127.0.0.1:8787", None, None)
        };
        assert_eq!(forwarded.client(&open), Identity::Anonymous);
        let cross_site = Claims {
            is_cross_site: true,
            ..claims("127.0.0.1:8787", None, None)
        };
        assert!(matches!(cross_site.client(&open), Identity::Refused(_)));
    }

    #[test]
    fn open_mode_knows_loopback_and_its_own_page_only() {
        let open = access(AuthMode::Open);
        let own = "127.0.0.1:8787";
        assert_eq!(
            claims(own, None, None).client(&open),
            Identity::Known("local".into())
        );
        assert_eq!(
            claims(own, Some("http://127.0.0.1:8787"), None).client(&open),
            Identity::Known("local".into())
        );
        for origin in [
            "http://evil.example",
            "null",
            "http://127.0.0.1:9999",
            "http://localhost:8787",
        ] {
            let identity = claims(own, Some(origin), None).client(&open);
            assert!(matches!(identity, Identity::Refused(_)), "{origin}");
        }
        let rebound = claims("evil.example:8787", Some("http://evil.example:8787"), None);
        assert_eq!(rebound.client(&open), Identity::Anonymous);
    }

    #[test]
    fn a_wrong_key_is_refused_even_in_open_mode() {
        let open = access(AuthMode::Open);
        assert!(matches!(
            claims("localhost", None, Some("hg-wrong")).client(&open),
            Identity::Refused(_)
        ));
        assert!(matches!(
            claims("localhost", None, Some("hgn-right")).client(&open),
            Identity::Refused(_)
        ));
        assert!(matches!(
            claims("localhost", None, Some("hg-right")).client(&open),
            Identity::Known(_)
        ));
    }

    #[test]
    fn nodes_need_a_node_key_in_every_mode() {
        for mode in [AuthMode::Open, AuthMode::Keys] {
            let access = access(mode);
            assert_eq!(
                claims("localhost", None, None).node(&access),
                Identity::Anonymous
            );
            assert!(matches!(
                claims("localhost", None, Some("hg-right")).node(&access),
                Identity::Refused(_)
            ));
            assert!(matches!(
                claims("localhost", None, Some("hgn-right")).node(&access),
                Identity::Known(_)
            ));
        }
    }

    #[test]
    fn each_key_is_an_account_of_its_own_and_the_same_one_after_a_restart() {
        let (ada, bob) = ("hg-ada", "hg-bob");
        let hash = |key: &str| hex::encode(Sha256::digest(key.as_bytes()));
        // Tickets name the account: read anew from the same settings, it must be the same text.
        let access = || Access {
            mode: AuthMode::Keys,
            api_key_hashes: [hash(ada), hash(bob)].into(),
            node_key_hashes: [hash("hgn-ada"), hash("hgn-bob")].into(),
        };
        let of = |key| client_of_key(&access(), key);
        assert!(matches!(of(ada), Identity::Known(_)));
        assert_ne!(of(ada), of(bob));
        assert_eq!(of(ada), of(ada));
        let node_of = |key| node_of_key(&access(), key);
        assert_eq!(
            node_of("hgn-ada"),
            Identity::Known(format!("key-{}", &hash("hgn-ada")[..12]))
        );
        assert_ne!(node_of("hgn-ada"), node_of("hgn-bob"));
        // Open mode's own account is no key's, whatever the key.
        assert_ne!(of(ada), Identity::Known(LOCAL.into()));
    }

    #[test]
    fn the_bearer_scheme_is_read_in_any_case() {
        assert_eq!(bearer("Bearer hg-x"), "hg-x");
        assert_eq!(bearer("bearer  hg-x "), "hg-x");
        assert_eq!(bearer("hg-x"), "hg-x");
    }
}
