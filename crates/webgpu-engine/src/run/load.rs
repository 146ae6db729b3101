//! Loading: bytes of a file come in order and in pieces of any size; its header decides, then tensors go to the device
//! one by one. Never more of the file is held than a header and a piece.

use std::sync::Arc;

use super::engine::Parts;
use super::{Engine, LoadError, Settings};
use crate::gpu::{Gpu, GpuError};
use crate::model::{Config, Demand, MemoryNeed, ModelTensor, Refusal, largest_buffer};
use crate::plan::{Upload, Weights};
use crate::quant::QuantType;
use crate::tokenizer::{Tokenizer, Vocabulary};
use gguf::{Header, Parser};

/// Bytes that may wait between the host and the device. A page's own process holds them.
const WAITING_BYTES_MAX: u64 = 32 << 20;

/// How far loading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the file that have been taken.
    pub bytes: u64,
    /// Where its weights end, once the header is known.
    pub end: Option<u64>,
}

/// A model that is being loaded. Who drops it has cancelled.
#[derive(Debug)]
pub struct Loader {
    gpu: Arc<Gpu>,
    settings: Settings,
    file_bytes: Option<u64>,
    position: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Header(Box<Parser>),
    Weights(Box<Loading>),
    Failed,
}

/// What the header has decided.
#[derive(Debug)]
struct Loading {
    about: About,
    tokenizer: Tokenizer,
    template: Option<String>,
    weights: Weights,
    /// In the order of the file.
    tensors: Vec<Place>,
    next: usize,
    upload: Option<Upload>,
    waiting_bytes: u64,
}

/// What is known of a model before its weights come.
#[derive(Debug, Clone)]
pub struct About {
    /// How it computes.
    pub config: Config,
    /// What it is loaded for.
    pub demand: Demand,
    /// The memory that it takes.
    pub need: MemoryNeed,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    tensor: ModelTensor,
    kind: QuantType,
    start: u64,
    end: u64,
}

impl Loader {
    /// Begins with a file of this many bytes, where that is known.
    pub fn new(gpu: Arc<Gpu>, file_bytes: Option<u64>, settings: Settings) -> Self {
        Self {
            gpu,
            settings,
            file_bytes,
            position: 0,
            state: State::Header(Box::new(Parser::new(file_bytes))),
        }
    }

    /// Takes the next bytes of the file. After an error there is nothing more to take.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<Progress, LoadError> {
        let result = self.take(bytes).await;
        if result.is_err() {
            self.state = State::Failed;
        }
        result?;
        Ok(Progress {
            bytes: self.position,
            end: match &self.state {
                State::Weights(loading) => loading.tensors.last().map(|place| place.end),
                State::Header(_) | State::Failed => None,
            },
        })
    }

    /// What the header says, once it has come whole: before anything of the weights is needed.
    pub fn about(&self) -> Option<&About> {
        match &self.state {
            State::Weights(loading) => Some(&loading.about),
            State::Header(_) | State::Failed => None,
        }
    }

    async fn take(&mut self, mut bytes: &[u8]) -> Result<(), LoadError> {
        if let State::Header(parser) = &mut self.state {
            match parser.push(bytes)? {
                gguf::Progress::More => {
                    self.position += length(bytes);
                    return Ok(());
                }
                gguf::Progress::Whole { taken, header } => {
                    let loading = Loading::begin(&self.gpu, &self.settings, &header)?;
                    self.state = State::Weights(Box::new(loading));
                    self.position += u64::try_from(taken).unwrap_or(u64::MAX);
                    bytes = bytes.get(taken..).unwrap_or_default();
                }
            }
        }
        if let State::Weights(loading) = &mut self.state {
            loading.take(&self.gpu, self.position, bytes)?;
            self.position += length(bytes);
            loading.waiting_bytes += length(bytes);
            if loading.waiting_bytes >= WAITING_BYTES_MAX {
                loading.waiting_bytes = 0;
                self.gpu.finish().await?;
            }
        }
        Ok(())
    }

    /// The file is over: the engine.
    pub async fn finish(self) -> Result<Engine, LoadError> {
        let truncated = |end| LoadError::Truncated {
            bytes: self.position,
            end,
        };
        let loading = match self.state {
            State::Weights(loading) => *loading,
            State::Header(_) | State::Failed => {
                return Err(truncated(self.file_bytes.unwrap_or(self.position)));
            }
        };
        if loading.next < loading.tensors.len() {
            let end = loading.tensors.last().map_or(0, |place| place.end);
            return Err(truncated(end));
        }
        self.gpu.finish().await?;
        Engine::new(Parts {
            gpu: self.gpu,
            about: loading.about,
            tokenizer: loading.tokenizer,
            template: loading.template,
            weights: loading.weights,
            settings: self.settings,
        })
    }
}

impl Loading {
    /// Everything that can be refused is refused here.
    fn begin(gpu: &Gpu, settings: &Settings, header: &Header) -> Result<Self, LoadError> {
        let config = Config::read(header)?;
        let demand = settings.demand(&config, gpu.abilities())?;
        let need = MemoryNeed::of(&config, header, &demand);
        if let Some(room) = settings.room_bytes {
            need.check(room)?;
        }
        let (label, bytes) = largest_buffer(&config, &demand);
        let most = gpu.abilities().binding_bytes_max;
        if bytes > most {
            let label = label.to_owned();
            return Err(GpuError::BufferTooLarge { label, bytes, most }.into());
        }
        let tokenizer = Tokenizer::new(&Vocabulary::from_metadata(&header.metadata)?)?;
        let template = header.metadata.text("tokenizer.chat_template")?;
        let kind_of = |tensor: ModelTensor| QuantType::of(header.tensor(&tensor.name())?.kind);
        let weights = Weights::new(gpu, &config, kind_of)?;
        let tensors = config.tensors().map(|tensor| {
            let name = tensor.name();
            let info = header.tensor(&name);
            let info = info.ok_or_else(|| Refusal::MissingTensor(name.clone()))?;
            let range = header.range(info);
            Ok(Place {
                tensor,
                kind: QuantType::of(info.kind).ok_or(Refusal::MissingTensor(name))?,
                start: range.start,
                end: range.end,
            })
        });
        let mut tensors = tensors.collect::<Result<Vec<_>, Refusal>>()?;
        tensors.sort_by_key(|place| place.start);
        Ok(Self {
            template: template.map(str::to_owned),
            about: About {
                config,
                demand,
                need,
            },
            tokenizer,
            weights,
            tensors,
            next: 0,
            upload: None,
            waiting_bytes: 0,
        })
    }

    /// Hands the bytes from `position` on to the tensors that they belong to. What lies between tensors is padding.
    fn take(&mut self, gpu: &Gpu, mut position: u64, mut bytes: &[u8]) -> Result<(), LoadError> {
        while let Some(place) = self.tensors.get(self.next).copied() {
            let skipped = usize::try_from(place.start.saturating_sub(position));
            let skipped = skipped.unwrap_or(usize::MAX).min(bytes.len());
            position += u64::try_from(skipped).unwrap_or(u64::MAX);
            bytes = bytes.get(skipped..).unwrap_or_default();
            let left = usize::try_from(place.end.saturating_sub(position));
            let now = left.unwrap_or(usize::MAX).min(bytes.len());
            let (piece, rest) = bytes.split_at(now);
            let config = &self.about.config;
            let upload = self
                .upload
                .get_or_insert_with(|| Upload::new(place.tensor, place.kind));
            self.weights.push(gpu, upload, piece)?;
            position += length(piece);
            bytes = rest;
            if position < place.end {
                break;
            }
            if let Some(upload) = self.upload.take() {
                self.weights.finish(gpu, config, upload)?;
            }
            self.next += 1;
        }
        gpu.check()?;
        Ok(())
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
