//! The relay's settings, from bindings. Read once per request or object; wrong settings refuse to serve, with a reason.

use std::collections::BTreeSet;

use catalog::Catalog;
use worker::Env;

/// The catalog that this relay was built with; the binding `CATALOG` replaces it.
const CATALOG: &str = include_str!("../../catalog.toml");

/// What one object takes on Cloudflare, about 1,000 messages a second, where `FRAMES_PER_SECOND_MAX` says nothing else.
const FRAMES_PER_SECOND_MAX: u32 = 1_000;

/// How long a node may be silent about an attempt where `LEASE_MS` says nothing else.
const LEASE_MS: u32 = 30_000;

/// How people and nodes are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthMode {
    /// Everybody needs a key.
    Keys,
    /// Whoever comes by loopback is `local`; refused unless the relay itself is bound to loopback.
    Open,
}

/// Who may come in.
#[derive(Debug)]
pub(crate) struct Access {
    /// Whether loopback needs no key.
    pub(crate) mode: AuthMode,
    /// SHA-256 of API keys, lower-case hexadecimal.
    pub(crate) api_key_hashes: BTreeSet<String>,
    /// SHA-256 of node keys, lower-case hexadecimal.
    pub(crate) node_key_hashes: BTreeSet<String>,
}

impl Access {
    /// Reads the bindings; an error says what to change.
    pub(crate) fn from_env(env: &Env) -> Result<Self, String> {
        let bind = text(env, "BIND_ADDRESS").unwrap_or_default();
        let mode = match text(env, "AUTH_MODE").as_deref() {
            None | Some("keys") => AuthMode::Keys,
            Some("open") if is_loopback(&bind) => AuthMode::Open,
            Some("open") => {
                return Err("AUTH_MODE=open works only where BIND_ADDRESS is a loopback address; use AUTH_MODE=keys".into());
            }
            Some(other) => {
                return Err(format!("AUTH_MODE is \"{other}\"; it must be keys or open"));
            }
        };
        Ok(Self {
            mode,
            api_key_hashes: hashes(env, "API_KEY_HASHES"),
            node_key_hashes: hashes(env, "NODE_KEY_HASHES"),
        })
    }
}

/// The catalog in force.
pub(crate) fn catalog(env: &Env) -> Result<Catalog, String> {
    let replaced = text(env, "CATALOG").filter(|text| !text.trim().is_empty());
    Catalog::parse(replaced.as_deref().unwrap_or(CATALOG))
        .map_err(|error| format!("catalog: {error}"))
}

/// Numbers of the scheduler's that an operator may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tuning {
    /// Token frames that the pool takes in a second before nodes are asked to gather deltas.
    pub(crate) frames_per_second_max: u32,
    /// Without any progress for this long, an attempt is lost.
    pub(crate) lease_ms: u32,
}

impl Tuning {
    /// Reads the bindings; an error says what to change.
    pub(crate) fn from_env(env: &Env) -> Result<Self, String> {
        let setting = |name, usual| number(name, text(env, name).as_deref(), usual);
        Ok(Self {
            frames_per_second_max: setting("FRAMES_PER_SECOND_MAX", FRAMES_PER_SECOND_MAX)?,
            lease_ms: setting("LEASE_MS", LEASE_MS)?,
        })
    }
}

fn number(name: &str, setting: Option<&str>, usual: u32) -> Result<u32, String> {
    let Some(setting) = setting else {
        return Ok(usual);
    };
    match setting.trim().parse() {
        Ok(number @ 1..) => Ok(number),
        Ok(0) | Err(_) => Err(format!(
            "{name} is \"{setting}\"; it must be a whole number above 0"
        )),
    }
}

/// Whether `authority` (`host`, `host:port`, `[v6]:port`) is this machine's own.
pub(crate) fn is_loopback(authority: &str) -> bool {
    if let Ok(address) = authority.parse::<std::net::IpAddr>() {
        return address.is_loopback(); // A bare IPv6 address has colons of its own.
    }
    let host = match authority
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((v6, _)) => v6,
        None => authority
            .split_once(':')
            .map_or(authority, |(host, _)| host),
    };
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn text(env: &Env, binding: &str) -> Option<String> {
    env.var(binding).ok().map(|value| value.to_string())
}

fn hashes(env: &Env, binding: &str) -> BTreeSet<String> {
    let list = text(env, binding).unwrap_or_default();
    list.split(',')
        .map(|hash| hash.trim().to_ascii_lowercase())
        .filter(|hash| !hash.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{is_loopback, number};

    #[test]
    fn a_setting_is_a_number_above_zero() {
        assert_eq!(number("LEASE_MS", None, 7), Ok(7));
        assert_eq!(number("LEASE_MS", Some("6000"), 7), Ok(6_000));
        for wrong in ["", "0", "-1", "many", "1e3"] {
            let error = number("LEASE_MS", Some(wrong), 7).unwrap_err();
            assert!(error.contains("LEASE_MS"), "{error}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for own in [
            "localhost",
            "localhost:1",
            "127.0.0.1:8787",
            "127.8.8.8",
            "[::1]:80",
            "::1",
        ] {
            assert!(is_loopback(own), "{own}");
        }
        for other in [
            "",
            "0.0.0.0:1",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[::]:1",
            "::1x",
        ] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
