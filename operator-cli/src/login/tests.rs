//! Whose names and passwords go to which registry.

use super::*;
use serde_json::json;

#[expect(clippy::unnecessary_wraps, reason = "the shape of a helper")]
fn none(_: &str, _: &str) -> Result<Option<Login>> {
    Ok(None)
}

fn text(login: Option<Login>) -> Option<String> {
    login.map(|login| format!("{} {}", login.user, login.secret))
}

#[test]
fn an_images_registry_is_the_one_that_docker_means() {
    for (reference, wanted) in [
        ("registry.example/heliograph/rig-cpu:1", "registry.example"),
        ("127.0.0.1:5000/x", "127.0.0.1:5000"),
        ("localhost/x", "localhost"),
        ("mine:1", DOCKER_HUB),
        ("somebody/mine:1", DOCKER_HUB),
        ("docker.io/somebody/mine", DOCKER_HUB),
    ] {
        assert_eq!(server(reference), wanted, "{reference}");
    }
}

#[test]
fn a_login_in_the_file_is_found_however_its_registry_is_written() {
    // "ann:pass:word", as `printf ann:pass:word | base64` says.
    let auth = json!({ "auth": "YW5uOnBhc3M6d29yZA==" });
    for name in [
        "registry.example",
        "https://registry.example",
        "https://registry.example/v2/",
    ] {
        let config = json!({ "auths": { name: auth, "other.example": {} } });
        let found = find(&config, "registry.example", none).unwrap();
        assert_eq!(text(found).as_deref(), Some("ann pass:word"), "{name}");
        assert!(find(&config, DOCKER_HUB, none).unwrap().is_none());
        assert!(find(&config, "other.example", none).unwrap().is_none());
    }
    let hub = json!({ "auths": { DOCKER_HUB: auth } });
    assert!(find(&hub, &server("mine:1"), none).unwrap().is_some());
}

#[test]
fn an_unreadable_login_is_an_error_that_does_not_quote_it() {
    let config = json!({ "auths": { "registry.example": { "auth": "c2VjcmV0" } } });
    let error = find(&config, "registry.example", none).err().unwrap();
    assert!(!format!("{error:#}").contains("c2VjcmV0"), "{error:#}");
}

#[test]
fn the_helper_of_a_registry_is_asked_before_the_one_for_all() {
    let config = json!({
        "credHelpers": { "registry.example": "own" }, "credsStore": "all", "auths": { "registry.example": {} },
    });
    let helper = |name: &str, server: &str| {
        Ok(Some(Login {
            user: name.to_owned(),
            secret: server.to_owned(),
        }))
    };
    let found = |server| text(find(&config, server, helper).unwrap());
    assert_eq!(
        found("registry.example").as_deref(),
        Some("own registry.example")
    );
    assert_eq!(found("x.example").as_deref(), Some("all x.example"));
    assert!(super::helper("../x", "registry.example").is_err());
}

#[test]
fn a_helper_is_asked_as_docker_asks_it() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = env::temp_dir().join(format!("heliograph-login-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let script = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        path
    };
    let knows = script(
        "knows",
        r#"read server; printf '{"ServerURL":"%s","Username":"%s","Secret":"s"}' "$server" "$1-$server""#,
    );
    let found = ask(&knows, "registry.example").unwrap();
    assert_eq!(text(found).as_deref(), Some("get-registry.example s"));
    let knows_none = script("knows_none", "echo credentials not found; exit 1");
    assert!(ask(&knows_none, "registry.example").unwrap().is_none());
    let odd = script("odd", "echo hello");
    assert!(ask(&odd, "registry.example").is_err());
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_token_is_brought_as_one() {
    let login = |user: &str| Login {
        user: user.to_owned(),
        secret: "s".to_owned(),
    };
    let token = credentials(login(TOKEN), "r".to_owned());
    assert_eq!(
        (token.identitytoken.as_deref(), token.username),
        (Some("s"), None)
    );
    let person = credentials(login("ann"), "r".to_owned());
    assert_eq!(person.username.as_deref(), Some("ann"));
    assert_eq!(person.password.as_deref(), Some("s"));
}
