//! The pictures of one request, from their messages to their places in the prompt.

use protocol::{ChatRequest, ErrorCode, Failure};

use crate::engine::image::decode;
use crate::engine::vision::{Projector, Sight, View};

/// Pictures that wait for their place.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    /// By number; `None` once it has found its place.
    sights: Vec<Option<Sight>>,
}

impl Pictures {
    /// Reads and prepares all pictures of a request, one after the other: unpacked ones are large.
    pub(super) fn prepare(
        projector: &Projector<'_>,
        request: &ChatRequest,
    ) -> Result<Self, Failure> {
        let images = request.messages.iter().flat_map(|message| &message.images);
        let sights = (1u32..).zip(images).map(|(number, image)| {
            let refuse = |why: String| {
                let message = format!("image {number} of the conversation cannot be used: {why}");
                Failure::new(ErrorCode::InvalidRequest, message).with_param("messages")
            };
            let picture = decode(&image.data).map_err(|error| refuse(error.to_string()))?;
            let sight = projector
                .prepare(&picture)
                .map_err(|error| refuse(error.to_string()))?;
            Ok(Some(sight))
        });
        Ok(Self {
            sights: sights.collect::<Result<_, Failure>>()?,
        })
    }

    /// The picture with this number, once.
    pub(super) fn take(&mut self, number: usize) -> Result<Sight, Failure> {
        let sight = self.sights.get_mut(number).and_then(Option::take);
        sight.ok_or_else(misplaced)
    }

    /// Whether every picture has found its place, and something follows the last one.
    pub(super) fn check_end(&self, view: &View, prompt_tokens: usize) -> Result<(), Failure> {
        if self.sights.iter().all(Option::is_none) && !view.is_last(prompt_tokens) {
            Ok(())
        } else {
            Err(misplaced())
        }
    }
}

/// The model does not see.
pub(super) fn blind() -> Failure {
    Failure::new(
        ErrorCode::CapabilityMissing,
        "this model does not take images; leave them out, or choose a model with vision",
    )
    .with_param("messages")
}

fn misplaced() -> Failure {
    Failure::new(
        ErrorCode::InvalidRequest,
        "the model's chat template has no place for an image in this conversation; put images into messages of the user",
    )
    .with_param("messages")
}
