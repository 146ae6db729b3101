//! How near our logits are to llama.cpp's on the same weights as 32-bit floats, position by position of a fixed text.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use super::{Kernels, Model, Outcome, Place, Stage, chromium, go_on};
use crate::console::{Step, say};
use crate::process::{guarded, run_openly};

/// Threads of llama.cpp. The truth does not depend on them.
const THREADS: &str = "2";

/// Tokens that are read one at a time, by the steps that answers are made of: beyond Gemma's window of 512, and several
/// splits of the context.
const STEPS: &str = "704";

/// What `top1` must reach and `kl` must not exceed.
const fn bounds(kernels: Kernels) -> (f64, f64) {
    match kernels {
        Kernels::F32 => (0.995, 1e-4),
        Kernels::PackedDot => (0.97, 0.01),
    }
}

/// What a model's logits are compared with.
struct Truth {
    tokens: Vec<u32>,
    tokens_file: PathBuf,
    logits: PathBuf,
}

/// Compares all that is asked for. What cannot be compared is left out, and told.
pub(super) fn run(stage: &Stage<'_>, models: &[Model]) -> Result<Outcome> {
    let mut outcome = Outcome {
        table: "\n| model | kernels | top-1 | mean KL | largest KL | positions | adapter |\n\
                |---|---|---|---|---|---|---|\n"
            .to_owned(),
        ..Outcome::default()
    };
    let mut all = Map::new();
    for model in models {
        let truth = Truth::make(stage, model)?;
        let mut of_model = Map::new();
        for (place, kernels) in stage.variants() {
            let key = format!("{}-{}", kernels.word(), place.word());
            let mut compared = vec![(key.clone(), truth.compare(stage, model, place, kernels))];
            go_on()?;
            if place == Place::Native {
                let steps = truth.compare_steps(stage, model, kernels);
                compared.push((format!("{key}-steps"), steps));
                go_on()?;
            }
            for (key, found) in compared {
                outcome.take((model.name, key), kernels, found, &mut of_model);
            }
        }
        all.insert(model.name.to_owned(), Value::Object(of_model));
        fs::remove_file(&truth.logits)?;
    }
    outcome.json = json!({"models": all});
    Ok(outcome)
}

impl Outcome {
    /// Takes a comparison, or why there is none. One beyond the bounds is told, and counts as a failure.
    fn take(
        &mut self,
        (model, key): (&str, String),
        kernels: Kernels,
        found: Result<Value>,
        of_model: &mut Map<String, Value>,
    ) {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                say(&format!("{key}: {error:#}"));
                self.failures.push(format!("{model} {key}: {error:#}"));
                return;
            }
        };
        let line = line(model, &key, &found);
        say(line.trim_end());
        self.table.push_str(&line);
        let (least, most) = bounds(kernels);
        let of = |name: &str| found.get(name).and_then(Value::as_f64);
        let is_near =
            of("top1").is_some_and(|top1| top1 >= least) && of("kl").is_some_and(|kl| kl <= most);
        if !is_near {
            self.failures.push(format!(
                "{model} {key} is not near enough: top-1 must be at least {least}, the mean KL at most {most}"
            ));
        }
        of_model.insert(key, short(&found));
    }
}

impl Truth {
    /// Asks llama.cpp. The weights as floats are kept beside the model, whose folder is named by its hash.
    fn make(stage: &Stage<'_>, model: &Model) -> Result<Self> {
        let text = stage.places.root.join("benches/webgpu/text.txt");
        let tokens_file = stage.folder.join("tokens.json");
        let given = (model.gguf.as_path(), text.as_path());
        let positions = stage.options.positions();
        let tokens = stage.native.tokens(given, positions, &tokens_file)?;
        let floats = model.gguf.with_extension("float32.gguf");
        let words = [
            "floats".as_ref(),
            model.gguf.as_os_str(),
            floats.as_os_str(),
        ];
        stage.native.run("weights as 32-bit floats", &words)?;
        let logits = stage.folder.join("truth");
        let step = Step::begin(format!("{} in llama.cpp", model.name));
        run_openly(
            guarded(stage.places.rig().join("rig"))
                .args(["logits", "--threads", THREADS, "--model-file"])
                .arg(&floats)
                .arg("--tokens")
                .arg(&tokens_file)
                .stdout(File::create(&logits)?),
        )?;
        step.done();
        Ok(Self {
            tokens,
            tokens_file,
            logits,
        })
    }

    fn compare(
        &self,
        stage: &Stage<'_>,
        model: &Model,
        place: Place,
        kernels: Kernels,
    ) -> Result<Value> {
        match place {
            Place::Native => {
                let mut words = self.words("compare", model);
                words.extend(["--kernels", kernels.word()].map(OsString::from));
                stage.native.ask("our engine, natively", &words)
            }
            Place::Chromium => {
                let found = stage.folder.join("found");
                let result = self.compare_chromium(stage, model, kernels, &found);
                if found.exists() {
                    fs::remove_file(&found)?;
                }
                result
            }
        }
    }

    /// The steps of answers, natively.
    fn compare_steps(&self, stage: &Stage<'_>, model: &Model, kernels: Kernels) -> Result<Value> {
        let mut words = self.words("compare", model);
        words.extend(["--kernels", kernels.word()].map(OsString::from));
        words.extend(["--rows", "1", "--first", STEPS].map(OsString::from));
        stage.native.ask("our engine, a token at a time", &words)
    }

    fn compare_chromium(
        &self,
        stage: &Stage<'_>,
        model: &Model,
        kernels: Kernels,
        found: &Path,
    ) -> Result<Value> {
        let adapter = chromium::logits(stage, model, kernels, &self.tokens, found)?;
        let mut words = self.words("compare-file", model);
        words.extend(["--found".into(), found.into()]);
        let mut compared = stage.native.ask("comparison", &words)?;
        let figures = compared.as_object_mut().context("no figures")?;
        figures.insert("adapter".to_owned(), json!(adapter));
        Ok(compared)
    }

    fn words(&self, command: &str, model: &Model) -> Vec<OsString> {
        vec![
            command.into(),
            "--model".into(),
            (&model.gguf).into(),
            "--tokens".into(),
            (&self.tokens_file).into(),
            "--truth".into(),
            (&self.logits).into(),
        ]
    }
}

/// What a result holds; the rest is in the table.
fn short(found: &Value) -> Value {
    let of = |name: &str| found.get(name).cloned().unwrap_or(Value::Null);
    json!({
        "top1": of("top1"),
        "kl": of("kl"),
        "positions": of("positions"),
        "adapter": of("adapter"),
    })
}

fn line(model: &str, key: &str, found: &Value) -> String {
    let number = |name: &str| found.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let adapter = found.get("adapter").and_then(Value::as_str).unwrap_or("?");
    format!(
        "| {model} | {key} | {:.2} % | {:.1e} | {:.1e} | {:.0} | {adapter} |\n",
        100.0 * number("top1"),
        number("kl"),
        number("kl_max"),
        number("positions"),
    )
}
