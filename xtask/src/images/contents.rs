//! The list of what went into an image, as `CycloneDX` 1.5: every crate with its version, licence and checksum.
//! Packages of the distribution are not in it; `dpkg-query -W` lists those inside the image.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::artefacts::cargo_with;
use crate::console::Step;
use crate::places::Places;
use crate::process::capture;

/// A crate of ours and what it is compiled for.
#[derive(Debug)]
pub(super) struct Part {
    package: &'static str,
    target: String,
    features: Vec<String>,
}

impl Part {
    /// A program for this kind of machine.
    pub(super) fn native(package: &'static str, features: &[&str]) -> Self {
        Self {
            package,
            target: format!("{}-unknown-linux-gnu", std::env::consts::ARCH),
            features: features
                .iter()
                .map(|feature| format!("{package}/{feature}"))
                .collect(),
        }
    }

    /// A WebAssembly module.
    pub(super) fn wasm(package: &'static str) -> Self {
        Self {
            package,
            target: "wasm32-unknown-unknown".to_owned(),
            features: Vec::new(),
        }
    }
}

/// Components by what names them, sorted, so that the same sources give the same file.
#[derive(Debug)]
pub(super) struct Contents {
    name: &'static str,
    components: BTreeMap<String, Value>,
}

impl Contents {
    /// Of everything that is linked into these parts.
    pub(super) fn of(places: &Places, parts: &[Part]) -> Result<Self> {
        let lock = fs::read_to_string(places.root.join("Cargo.lock"))?;
        let checksums = checksums(&lock)?;
        let mut contents = Self {
            name: parts.first().map_or("nothing", |part| part.package),
            components: BTreeMap::new(),
        };
        for part in parts {
            let mut step = Step::begin("cargo metadata");
            let mut command = cargo_with(places, "metadata");
            command.args(["--format-version", "1", "--filter-platform", &part.target]);
            if !part.features.is_empty() {
                command.args(["--features", &part.features.join(",")]);
            }
            let metadata = serde_json::from_str(&capture(&mut step, &mut command)?)?;
            contents.add_linked(&metadata, part.package, &checksums)?;
        }
        Ok(contents)
    }

    fn add_linked(
        &mut self,
        metadata: &Value,
        package: &str,
        checksums: &BTreeMap<(String, String), String>,
    ) -> Result<()> {
        let linked = linked(metadata, package)?;
        for package in list(metadata, "/packages") {
            let id = text(package, "id");
            if linked.contains(id) {
                let (reference, component) = component(package, checksums);
                self.components.insert(reference, component);
            }
        }
        Ok(())
    }

    /// The Worker's runtime, which is an npm package.
    pub(super) fn add_workerd(&mut self, places: &Places) -> Result<()> {
        let package = fs::read_to_string(places.root.join("package.json"))?;
        let package: Value = serde_json::from_str(&package)?;
        let version = package
            .pointer("/dependencies/workerd")
            .and_then(Value::as_str)
            .context("package.json names no workerd")?;
        let reference = format!("pkg:npm/workerd@{version}");
        self.components.insert(
            reference.clone(),
            json!({
                "type": "application", "name": "workerd", "version": version,
                "bom-ref": reference, "purl": reference,
                "licenses": [{"expression": "Apache-2.0"}],
            }),
        );
        Ok(())
    }

    /// LLVM's library of OpenMP, which comes from the distribution's compiler.
    pub(super) fn add_open_mp(&mut self) {
        let reference = "pkg:deb/debian/libomp5-19".to_owned();
        let component = json!({
            "type": "library", "name": "libomp5-19", "bom-ref": reference, "purl": reference,
            "licenses": [{"expression": "Apache-2.0 WITH LLVM-exception"}],
        });
        self.components.insert(reference, component);
    }

    /// Writes the file.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let components: Vec<&Value> = self.components.values().collect();
        let bom = json!({
            "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
            "metadata": {"component": {
                "type": "application", "name": self.name, "version": env!("CARGO_PKG_VERSION"),
            }},
            "components": components,
        });
        fs::write(path, format!("{bom:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The ids of everything that a package is linked from: its ordinary dependencies, and theirs.
fn linked<'a>(metadata: &'a Value, package: &str) -> Result<BTreeSet<&'a str>> {
    let root = list(metadata, "/packages")
        .find(|candidate| text(candidate, "name") == package && is_ours(candidate))
        .map(|candidate| text(candidate, "id"))
        .with_context(|| format!("cargo metadata without {package}"))?;
    let nodes: BTreeMap<&str, &Value> = list(metadata, "/resolve/nodes")
        .map(|node| (text(node, "id"), node))
        .collect();
    let mut linked = BTreeSet::from([root]);
    let mut open = vec![root];
    while let Some(id) = open.pop() {
        let node = nodes
            .get(id)
            .with_context(|| format!("cargo metadata without the dependencies of {id}"))?;
        let ordinary = list(node, "/deps").filter(|dependency| {
            list(dependency, "/dep_kinds").any(|kind| kind.get("kind").is_none_or(Value::is_null))
        });
        for dependency in ordinary.map(|dependency| text(dependency, "pkg")) {
            if linked.insert(dependency) {
                open.push(dependency);
            }
        }
    }
    Ok(linked)
}

fn is_ours(package: &Value) -> bool {
    package.get("source").is_none_or(Value::is_null)
}

fn component(package: &Value, checksums: &BTreeMap<(String, String), String>) -> (String, Value) {
    let (name, version) = (text(package, "name"), text(package, "version"));
    let reference = format!("pkg:cargo/{name}@{version}");
    let mut component = json!({
        "type": "library", "name": name, "version": version, "bom-ref": reference,
    });
    let Some(fields) = component.as_object_mut() else {
        return (reference, component);
    };
    if let Some(licence) = package.get("license").and_then(Value::as_str) {
        // The old way to write "or".
        let expression = licence.replace('/', " OR ");
        fields.insert("licenses".into(), json!([{"expression": expression}]));
    }
    if !is_ours(package) {
        fields.insert("purl".into(), json!(reference));
        if let Some(checksum) = checksums.get(&(name.to_owned(), version.to_owned())) {
            let hashes = json!([{"alg": "SHA-256", "content": checksum}]);
            fields.insert("hashes".into(), hashes);
        }
    }
    (reference, component)
}

/// What the lock file says about each crate of the registry.
fn checksums(lock: &str) -> Result<BTreeMap<(String, String), String>> {
    let lock: toml::Table = toml::from_str(lock).context("Cargo.lock")?;
    let packages = lock.get("package").and_then(toml::Value::as_array);
    let of = |package: &toml::Value, key: &str| {
        let text = package.get(key).and_then(toml::Value::as_str)?;
        Some(text.to_owned())
    };
    Ok(packages
        .into_iter()
        .flatten()
        .filter_map(|package| {
            let key = (of(package, "name")?, of(package, "version")?);
            Some((key, of(package, "checksum")?))
        })
        .collect())
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Value {
        let package = |name: &str, source: Option<&str>| json!({"id": name, "name": name, "version": "1.0.0", "source": source, "license": "MIT/Apache-2.0"});
        let dependency =
            |name: &str, kind: Option<&str>| json!({"pkg": name, "dep_kinds": [{"kind": kind}]});
        json!({
            "packages": [
                package("ours", None), package("used", Some("registry")), package("deep", Some("registry")),
                package("test-only", Some("registry")), package("other", None),
            ],
            "resolve": {"nodes": [
                {"id": "ours", "deps": [dependency("used", None), dependency("test-only", Some("dev"))]},
                {"id": "used", "deps": [dependency("deep", None)]},
                {"id": "deep", "deps": []},
                {"id": "test-only", "deps": []},
                {"id": "other", "deps": []},
            ]},
        })
    }

    #[test]
    fn what_is_linked_is_listed_and_nothing_else() {
        let metadata = metadata();
        let linked = linked(&metadata, "ours").unwrap();
        assert_eq!(
            linked.into_iter().collect::<Vec<_>>(),
            ["deep", "ours", "used"]
        );
    }

    #[test]
    fn a_crate_of_the_registry_carries_its_checksum_and_licence() {
        let lock = "[[package]]\nname = \"used\"\nversion = \"1.0.0\"\nchecksum = \"ab12\"\n";
        let metadata = metadata();
        let mut contents = Contents {
            name: "ours",
            components: BTreeMap::new(),
        };
        contents
            .add_linked(&metadata, "ours", &checksums(lock).unwrap())
            .unwrap();
        let used = &contents.components["pkg:cargo/used@1.0.0"];
        assert_eq!(used.pointer("/hashes/0/content"), Some(&json!("ab12")));
        assert_eq!(
            used.pointer("/licenses/0/expression"),
            Some(&json!("MIT OR Apache-2.0"))
        );
        let ours = &contents.components["pkg:cargo/ours@1.0.0"];
        assert!(ours.get("purl").is_none(), "ours is in no registry");
    }
}
