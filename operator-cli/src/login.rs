//! Who may pull: the logins that `docker login` keeps (`config.json` in `DOCKER_CONFIG`, else in `~/.docker`, and the
//! credential helpers that it names). The engine itself knows none: whoever asks it to pull has to bring them.
//! The file's form: <https://docs.docker.com/reference/cli/docker/login/>.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use serde_json::Value;

/// What Docker calls its own registry where it keeps logins.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// What a helper calls a user where the secret is a token for new ones.
const TOKEN: &str = "<token>";

/// Somebody's login at a registry; never shown.
#[derive(PartialEq, Eq)]
struct Login {
    user: String,
    secret: String,
}

/// The login for an image's registry, where Docker keeps one.
pub(crate) fn of(reference: &str) -> Result<Option<DockerCredentials>> {
    let Some(file) = file() else {
        return Ok(None);
    };
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", file.display()));
        }
    };
    let server = server(reference);
    let found = serde_json::from_str(&text)
        .map_err(anyhow::Error::from)
        .and_then(|config| find(&config, &server, helper))
        .with_context(|| format!("no login for {server} in {}", file.display()))?;
    Ok(found.map(|login| credentials(login, server)))
}

fn file() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let folder = set("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&set("HOME")?).join(".docker")))?;
    Some(folder.join("config.json"))
}

/// The registry of an image, as Docker names it where it keeps logins.
fn server(reference: &str) -> String {
    match reference.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => match host {
            "docker.io" | "index.docker.io" => DOCKER_HUB.to_owned(),
            _ => host.to_owned(),
        },
        Some(_) | None => DOCKER_HUB.to_owned(),
    }
}

/// The host in one of the ways that logins are named: with a scheme and a path, or without.
fn host(server: &str) -> &str {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// Looks where Docker does, in its order: the registry's own helper, the helper for all, the file itself.
fn find(
    config: &Value,
    server: &str,
    helper: impl Fn(&str, &str) -> Result<Option<Login>>,
) -> Result<Option<Login>> {
    let of_server = |field: &str| {
        let all = config.get(field)?.as_object()?;
        let mut entries = all.iter();
        let same = entries.find(|(name, _)| host(name) == host(server));
        same.map(|(_, value)| value)
    };
    let named = of_server("credHelpers").or_else(|| config.get("credsStore"));
    if let Some(name) = named.and_then(Value::as_str)
        && let Some(login) = helper(name, server)?
    {
        return Ok(Some(login));
    }
    let Some(entry) = of_server("auths") else {
        return Ok(None);
    };
    let field = |name: &str| {
        let text = entry.get(name)?.as_str()?;
        (!text.is_empty()).then_some(text)
    };
    if let Some(token) = field("identitytoken") {
        return Ok(Some(Login {
            user: TOKEN.to_owned(),
            secret: token.to_owned(),
        }));
    }
    let Some(both) = field("auth") else {
        return Ok(None);
    };
    // Neither error may quote what it could not read.
    let both = STANDARD.decode(both).ok();
    let both = both.and_then(|bytes| String::from_utf8(bytes).ok());
    match both.as_deref().and_then(|both| both.split_once(':')) {
        Some((user, secret)) => Ok(Some(Login {
            user: user.to_owned(),
            secret: secret.trim_end_matches('\0').to_owned(),
        })),
        None => bail!("its `auth` is not the Base64 of a name and a password"),
    }
}

/// Asks `docker-credential-NAME`.
fn helper(name: &str, server: &str) -> Result<Option<Login>> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if !name.chars().all(fits) {
        bail!("`{name}` cannot be the name of a credential helper");
    }
    ask(Path::new(&format!("docker-credential-{name}")), server)
}

/// A helper takes the registry's name on its standard input and answers with JSON, or fails where it knows none.
/// The protocol: <https://github.com/docker/docker-credential-helpers>.
fn ask(program: &Path, server: &str) -> Result<Option<Login>> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends before it has read says why by its exit code.
        _ = writeln!(stdin, "{server}");
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Ok(None);
    }
    let answer: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    let field = |name: &str| Some(answer.as_ref()?.get(name)?.as_str()?.to_owned());
    match (field("Username"), field("Secret")) {
        (Some(user), Some(secret)) => Ok(Some(Login { user, secret })),
        (_, _) => bail!("{} gives no name and secret", program.display()),
    }
}

fn credentials(login: Login, server: String) -> DockerCredentials {
    let mut credentials = DockerCredentials {
        serveraddress: Some(server),
        ..DockerCredentials::default()
    };
    if login.user == TOKEN {
        credentials.identitytoken = Some(login.secret);
    } else {
        credentials.username = Some(login.user);
        credentials.password = Some(login.secret);
    }
    credentials
}

#[cfg(test)]
mod tests;
