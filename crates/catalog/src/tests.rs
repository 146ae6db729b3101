//! The shipped file, the lookups, and each fault with its line.

use super::*;

const SHIPPED: &str = include_str!("../../../catalog.toml");

/// A small valid catalog; the tests break it one line at a time.
const SMALL: &str = r#"
[[tier]]
id = "small"
name = "Small"
description = "One model."
models = ["mini"]
web = "off"

[[preset]]
id = "other"
name = "Other"
description = "Another set."
[[preset.tier]]
id = "small"
name = "Small again"
description = "The same model."
models = ["mini"]
web = "tool"

[[model]]
id = "mini"
name = "Mini"
description = "A model."
category = "llm"
class = "rig"
runtimes = ["llama.cpp"]
context_tokens = 2048
ram_bytes = 1000
vram_bytes = 1000
chat_template = "file"
capabilities = ["chat"]
[[model.files]]
role = "weights"
url = "https://example.org/mini.gguf?download=true"
bytes = 10
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
[model.prices]
prompt_per_mtok = 1
completion_per_mtok = 2
[model.licence]
spdx = "MIT"
url = "https://example.org/licence"
gated = false
redistributable = true
"#;

/// Replaces one whole line of [`SMALL`] and returns its number with what came of it.
fn broken(line: &str, replacement: &str) -> (usize, CatalogError) {
    let position = SMALL
        .lines()
        .position(|candidate| candidate == line)
        .unwrap_or_else(|| panic!("no line `{line}`"));
    let text: Vec<&str> = SMALL
        .lines()
        .enumerate()
        .map(|(index, kept)| if index == position { replacement } else { kept })
        .collect();
    let error = Catalog::parse(&text.join("\n")).expect_err("the broken catalog parses");
    (position + 1, error)
}

#[track_caller]
fn refused(line: &str, replacement: &str, fault: &CatalogFault) {
    let (expected_line, error) = broken(line, replacement);
    assert_eq!((error.line, &error.fault), (expected_line, fault));
}

#[track_caller]
fn refused_by_toml(line: &str, replacement: &str, sentence_part: &str) {
    let (expected_line, error) = broken(line, replacement);
    assert_eq!(error.line, expected_line, "{error}");
    let said = error.to_string();
    assert!(said.contains(sentence_part), "{said}");
    assert!(said.starts_with(&format!("catalog line {expected_line}: ")));
}

#[test]
fn the_shipped_catalog_is_valid_and_the_demo_comes_first() {
    let catalog = Catalog::parse(SHIPPED).unwrap();
    let ids: Vec<&str> = catalog
        .tiers()
        .iter()
        .map(|tier| tier.id.as_str())
        .collect();
    assert_eq!(ids, ["demo", "light", "heavy"]);
    assert_eq!(catalog.default_tier().unwrap().id, "demo");
    let model = catalog.model("smollm2-135m").unwrap();
    assert_eq!(model.context_tokens, 8192);
    assert_eq!(model.shape.unwrap().kv_heads, 3);
    let weights = model.weights().unwrap();
    assert_eq!(weights.bytes, 98_362_432);
    assert_eq!(weights.name(), "SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(model.can(Capability::JsonSchema));
    assert!(!model.can(Capability::Tools));
}

#[test]
fn the_shipped_catalog_can_switch_to_its_three_tier_preset() {
    let text = SHIPPED.replace("# active_preset =", "active_preset =");
    let catalog = Catalog::parse(&text).unwrap();
    let ids: Vec<&str> = catalog
        .tiers()
        .iter()
        .map(|tier| tier.id.as_str())
        .collect();
    assert_eq!(ids, ["free", "pro", "max"]);
    assert!(catalog.resolve("heavy").is_empty());
}

#[test]
fn a_name_resolves_to_a_model_or_to_the_models_of_a_tier() {
    let catalog = Catalog::parse(SHIPPED).unwrap();
    let ids = |name| -> Vec<&str> {
        let models = catalog.resolve(name);
        models.iter().map(|model| model.id.as_str()).collect()
    };
    assert_eq!(ids("atlas-30b"), ["atlas-30b"]);
    assert_eq!(ids("heavy"), ["atlas-30b", "atlas-vision-27b"]);
    assert!(ids("gpt-4o").is_empty());
    let tiers: Vec<&str> = catalog
        .tiers_of("atlas-30b")
        .map(|tier| tier.id.as_str())
        .collect();
    assert_eq!(tiers, ["heavy"]);
}

#[test]
fn a_preset_may_use_the_ids_of_the_tiers_it_replaces() {
    let catalog = Catalog::parse(SMALL).unwrap();
    assert_eq!(catalog.tiers()[0].name, "Small");
    assert_eq!(catalog.presets()[0].tiers[0].name, "Small again");
    let switched = Catalog::parse(&format!("active_preset = \"other\"{SMALL}")).unwrap();
    assert_eq!(switched.tiers()[0].name, "Small again");
    assert_eq!(switched.tiers()[0].web, WebLookup::Tool);
}

#[test]
fn a_file_is_named_by_its_address_without_the_query() {
    let catalog = Catalog::parse(SMALL).unwrap();
    let model = catalog.model("mini").unwrap();
    assert_eq!(model.weights().unwrap().name(), "mini.gguf");
}

#[test]
fn every_shipped_model_names_files_a_shape_and_a_licence_and_each_file_is_pinned() {
    let catalog = Catalog::parse(SHIPPED).unwrap();
    for model in catalog.models() {
        assert!(model.weights().is_some(), "{}", model.id);
        assert!(model.shape.is_some(), "{}", model.id);
        assert!(model.licence.url.is_some(), "{}", model.id);
        assert_eq!(
            model.projector().is_some(),
            model.can(Capability::Vision),
            "{}",
            model.id
        );
        for file in &model.files {
            let Source::Url(url) = &file.source else {
                continue;
            };
            // A branch moves, and its file would then no longer be the one that was hashed.
            let revision = url.split("/resolve/").nth(1).unwrap();
            let commit = revision.split('/').next().unwrap();
            assert!(
                commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{url}"
            );
        }
    }
}

#[test]
fn a_shape_that_cannot_be_is_refused() {
    let shape = |layers: u32, window: u32| {
        format!(
            "shape = {{ layers = {layers}, kv_heads = 1, key_size = 64, value_size = 64, embedding = 64, \
             vocabulary = 100, window = {{ tokens = 512, layers = {window} }} }}"
        )
    };
    // Both stand in place of the chat template's line, so that nothing else is missing before them.
    let both = |shape: String| format!("{shape}\nchat_template = \"file\"");
    for (shape, fault) in [
        (shape(0, 0), CatalogFault::Zero("layers")),
        (shape(2, 3), CatalogFault::WindowLayers),
    ] {
        refused("chat_template = \"file\"", &both(shape), &fault);
    }
}

#[test]
fn an_operators_own_file_needs_no_size_and_no_licence_address() {
    let start = SMALL.find("[[model.files]]").unwrap();
    let end = SMALL.find("[model.prices]").unwrap();
    let text = format!("{}{}", &SMALL[..start], &SMALL[end..])
        .replace("ram_bytes = 1000\nvram_bytes = 1000\n", "files = []\n")
        .replace("url = \"https://example.org/licence\"\n", "");
    let catalog = Catalog::parse(&text).unwrap();
    let model = catalog.model("mini").unwrap();
    assert!(model.files.is_empty());
    assert_eq!((model.ram_bytes, model.vram_bytes), (None, None));
    assert_eq!(model.licence.url, None);
}

#[test]
fn text_that_is_no_toml_is_refused_at_its_line() {
    refused_by_toml("web = \"off\"", "web = ", "");
    refused_by_toml("web = \"off\"", "web = \"off\" web", "");
}

#[test]
fn unknown_fields_and_words_are_refused_at_their_line() {
    refused_by_toml("web = \"off\"", "web = \"sometimes\"", "sometimes");
    refused_by_toml("category = \"llm\"", "category = \"poetry\"", "poetry");
    refused_by_toml("class = \"rig\"", "class = \"toaster\"", "toaster");
    refused_by_toml(
        "runtimes = [\"llama.cpp\"]",
        "runtimes = [\"cuda\"]",
        "cuda",
    );
    refused_by_toml(
        "capabilities = [\"chat\"]",
        "capabilities = [\"fly\"]",
        "fly",
    );
    refused_by_toml("chat_template = \"file\"", "chat_template = \"?\"", "?");
    refused_by_toml("role = \"weights\"", "role = \"lyrics\"", "lyrics");
    refused_by_toml("gated = false", "gatet = false", "gatet");
}

#[test]
fn values_of_the_wrong_type_are_refused_at_their_line() {
    refused_by_toml("context_tokens = 2048", "context_tokens = -1", "");
    refused_by_toml("bytes = 10", "bytes = \"ten\"", "ten");
    refused_by_toml("gated = false", "gated = \"no\"", "no");
}

#[test]
fn a_missing_field_is_refused_at_the_table_it_is_missing_from() {
    let (_, error) = broken("prompt_per_mtok = 1", "");
    let header = SMALL.lines().position(|line| line == "[model.prices]");
    assert_eq!(error.line, header.unwrap() + 1);
    assert!(error.to_string().contains("prompt_per_mtok"), "{error}");
}

#[test]
fn duplicate_ids_are_refused_over_tiers_and_models_together() {
    let twice = SMALL
        .replace("[[preset]]\n", "[[tier]]\n")
        .replace("[[preset.tier]]\n", "[[tier]]\n");
    let other = twice.replace(
        "description = \"Another set.\"",
        "description = \"\"\nmodels = [\"mini\"]\nweb = \"off\"",
    );
    let error = Catalog::parse(&other).unwrap_err();
    assert_eq!(error.fault, CatalogFault::DuplicateId("small".into()));
    assert_eq!(error.line, 16);

    refused(
        "id = \"small\"",
        "id = \"mini\"",
        &CatalogFault::DuplicateId("mini".into()),
    );
    let models = SMALL.split_once("[[model]]").unwrap().1;
    let text = format!("{SMALL}[[model]]{models}");
    let error = Catalog::parse(&text).unwrap_err();
    assert_eq!(error.fault, CatalogFault::DuplicateId("mini".into()));
    assert_eq!(error.line, SMALL.lines().count() + 2);
}

#[test]
fn ids_that_do_not_fit_a_url_are_refused() {
    for id in ["", "Small", "a b", "-a", "ä", "a/b", &"a".repeat(65)] {
        refused(
            "id = \"small\"",
            &format!("id = \"{id}\""),
            &CatalogFault::BadId(id.into()),
        );
    }
}

#[test]
fn a_tier_must_name_models_that_exist_once_each() {
    refused(
        "models = [\"mini\"]",
        "models = [\"mini\", \"maxi\"]",
        &CatalogFault::UnknownModel {
            tier: "small".into(),
            model: "maxi".into(),
        },
    );
    refused(
        "models = [\"mini\"]",
        "models = [\"mini\", \"mini\"]",
        &CatalogFault::RepeatedModel {
            tier: "small".into(),
            model: "mini".into(),
        },
    );
    refused(
        "models = [\"mini\"]",
        "models = []",
        &CatalogFault::EmptyTier("small".into()),
    );
}

#[test]
fn a_catalog_without_tiers_or_with_an_unknown_preset_is_refused() {
    let error = Catalog::parse("").unwrap_err();
    assert_eq!((error.line, error.fault), (1, CatalogFault::NoTier));
    let error =
        Catalog::parse("\n[[preset]]\nid = \"p\"\nname = \"P\"\ndescription = \"\"").unwrap_err();
    assert_eq!((error.line, error.fault), (3, CatalogFault::NoTier));
    let error = Catalog::parse(&format!("\nactive_preset = \"none\"{SMALL}")).unwrap_err();
    assert_eq!(error.line, 2);
    assert_eq!(error.fault, CatalogFault::UnknownPreset("none".into()));
}

#[test]
fn empty_names_empty_lists_and_repetitions_are_refused() {
    refused(
        "name = \"Mini\"",
        "name = \" \"",
        &CatalogFault::EmptyText("name"),
    );
    refused(
        "runtimes = [\"llama.cpp\"]",
        "runtimes = []",
        &CatalogFault::EmptyList("runtimes"),
    );
    refused(
        "capabilities = [\"chat\"]",
        "capabilities = [\"chat\", \"chat\"]",
        &CatalogFault::RepeatedItem("capabilities"),
    );
}

#[test]
fn zero_context_size_and_memory_are_refused() {
    refused(
        "context_tokens = 2048",
        "context_tokens = 0",
        &CatalogFault::Zero("context_tokens"),
    );
    refused("bytes = 10", "bytes = 0", &CatalogFault::Zero("bytes"));
    refused(
        "ram_bytes = 1000",
        "ram_bytes = 0",
        &CatalogFault::Zero("ram_bytes"),
    );
}

#[test]
fn a_model_with_files_must_say_what_memory_it_needs() {
    let (line, error) = broken("vram_bytes = 1000", "");
    assert_eq!(error.fault, CatalogFault::MemoryUnknown("mini".into()));
    assert!(error.line < line, "it names the model's id line");
}

#[test]
fn capabilities_must_agree_with_template_and_category() {
    refused(
        "chat_template = \"file\"",
        "chat_template = \"none\"",
        &CatalogFault::ChatWithoutTemplate("mini".into()),
    );
    refused(
        "capabilities = [\"chat\"]",
        "capabilities = [\"chat\", \"vision\"]",
        &CatalogFault::VisionMismatch("mini".into()),
    );
}

#[test]
fn a_bad_sha256_is_refused() {
    let good = "sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"";
    let upper = "A".repeat(64);
    for bad in ["", "00", &upper] {
        refused(
            good,
            &format!("sha256 = \"{bad}\""),
            &CatalogFault::BadSha256(bad.into()),
        );
    }
}

#[test]
fn a_file_comes_from_exactly_one_place_over_https_or_from_a_plain_package() {
    let url = "url = \"https://example.org/mini.gguf?download=true\"";
    for bad in [
        "http://example.org/a",
        "https://",
        "file:///etc/passwd",
        "https://a b",
    ] {
        refused(
            url,
            &format!("url = \"{bad}\""),
            &CatalogFault::BadUrl(bad.into()),
        );
    }
    let (_, error) = broken(url, "");
    assert_eq!(error.fault, CatalogFault::OneSource);
    let pip = |package: &str, member: &str| {
        format!("pip = {{ package = \"{package}\", version = \"1.0\", member = \"{member}\" }}")
    };
    refused(
        url,
        &pip("--index-url", "a"),
        &CatalogFault::BadPackage("--index-url".into()),
    );
    refused(
        url,
        &pip("a", "../../etc/passwd"),
        &CatalogFault::BadPackage("../../etc/passwd".into()),
    );
    let (_, error) = broken(
        "bytes = 10",
        &format!("{}\nbytes = 10", pip("a", "b/c.gguf")),
    );
    assert_eq!(error.fault, CatalogFault::OneSource);
}

#[test]
fn a_model_without_a_licence_or_with_an_unclear_one_is_refused() {
    let text = SMALL.split_once("[model.licence]").unwrap().0;
    let error = Catalog::parse(text).unwrap_err();
    assert_eq!(error.fault, CatalogFault::NoLicence("mini".into()));
    let id_line = SMALL.lines().position(|line| line == "id = \"mini\"");
    assert_eq!(error.line, id_line.unwrap() + 1);

    let header = SMALL.lines().position(|line| line == "[model.licence]");
    let (_, error) = broken("spdx = \"MIT\"", "");
    assert_eq!(error.fault, CatalogFault::OneLicenceName);
    assert_eq!(error.line, header.unwrap() + 1);
    let (_, error) = broken("spdx = \"MIT\"", "spdx = \"MIT\"\nname = \"MIT\"");
    assert_eq!(error.fault, CatalogFault::OneLicenceName);
    let (_, error) = broken("url = \"https://example.org/licence\"", "");
    assert_eq!(error.fault, CatalogFault::LicenceWithoutUrl("mini".into()));
}
