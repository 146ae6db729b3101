//! The pictures of one request, from their messages to their places in the prompt.
//!
//! ```text
//! header of each file ─▶ its size ─▶ pixels of all together, tokens of each: refused here, where it is too much
//! each file           ─▶ pixels   ─▶ pieces for the projector: one after the other, while somebody wants them
//! ```
//! Whether a request fits is answered from the headers alone.

use protocol::{ChatRequest, ErrorCode, Failure};

use super::reader::Ticket;
use crate::engine::image::{PictureFile, REQUEST_PIXELS_MAX};
use crate::engine::vision::{Projector, Sight, View};

/// What a prompt is read for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose<'t> {
    /// To be answered, unless nobody wants the answer any more.
    Answer(&'t Ticket),
    /// To find out whether it could be answered. No picture is unpacked for that.
    Check,
}

/// Pictures that wait for their place.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    /// By number.
    files: Vec<File>,
}

/// A picture that waits for its place.
#[derive(Debug)]
struct File {
    /// `None` once it has found its place.
    file: Option<PictureFile>,
    /// What it takes in the prompt, where its size tells.
    tokens: Option<usize>,
}

impl Pictures {
    /// Reads the headers of all pictures of a request.
    pub(super) fn read(projector: &Projector<'_>, request: &ChatRequest) -> Result<Self, Failure> {
        let images = request.messages.iter().flat_map(|message| &message.images);
        let mut files = Vec::new();
        for (number, image) in (1usize..).zip(images) {
            let file = PictureFile::read(&image.data).map_err(|why| refusal(number, &why))?;
            files.push((number, file));
        }
        check_pixels(files.iter().map(|(_, file)| file.pixels()).sum())?;
        let files = files.into_iter().map(|(number, file)| {
            let tokens = projector.tokens(file.width(), file.height());
            Ok(File {
                tokens: tokens.map_err(|why| refusal(number, &why))?,
                file: Some(file),
            })
        });
        Ok(Self {
            files: files.collect::<Result<_, Failure>>()?,
        })
    }

    /// Whether there are none.
    pub(super) const fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Tokens that they take in the prompt, at least; and whether that is all.
    pub(super) fn tokens(&self) -> (usize, bool) {
        let known = self.files.iter().filter_map(|file| file.tokens);
        let are_all = self.files.iter().all(|file| file.tokens.is_some());
        (known.sum(), are_all)
    }

    /// Puts the picture with this number at the end of a prompt, once.
    pub(super) fn show(
        &mut self,
        projector: &Projector<'_>,
        index: usize,
        purpose: Purpose<'_>,
    ) -> Result<Option<Sight>, Failure> {
        self.take(index, purpose, |file| {
            let refuse = |why: &dyn std::fmt::Display| refusal(index + 1, why);
            let picture = file.unpack().map_err(|why| refuse(&why))?;
            projector.prepare(&picture).map_err(|why| refuse(&why))
        })
    }

    /// Takes the picture with this number, once; nothing where it need not be shown.
    fn take<T>(
        &mut self,
        index: usize,
        purpose: Purpose<'_>,
        show: impl FnOnce(&PictureFile) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        let file = self.files.get_mut(index).and_then(|file| file.file.take());
        let file = file.ok_or_else(misplaced)?;
        match purpose {
            Purpose::Check => Ok(None),
            Purpose::Answer(ticket) if ticket.is_abandoned() => Err(unwanted()),
            Purpose::Answer(_) => show(&file).map(Some),
        }
    }

    /// Whether every picture has found its place, and something follows the last one.
    pub(super) fn check_end(&self, view: &View, prompt_tokens: usize) -> Result<(), Failure> {
        if self.files.iter().all(|file| file.file.is_none()) && !view.is_last(prompt_tokens) {
            Ok(())
        } else {
            Err(misplaced())
        }
    }
}

fn check_pixels(pixels: u64) -> Result<(), Failure> {
    if pixels <= REQUEST_PIXELS_MAX {
        return Ok(());
    }
    let message = format!(
        "the images of this conversation have {pixels} pixels together, but at most {REQUEST_PIXELS_MAX} are taken; scale them down, or leave some out"
    );
    Err(Failure::new(ErrorCode::InvalidRequest, message).with_param("messages"))
}

fn refusal(number: usize, why: &dyn std::fmt::Display) -> Failure {
    let message = format!("image {number} of the conversation cannot be used: {why}");
    Failure::new(ErrorCode::InvalidRequest, message).with_param("messages")
}

/// Nobody is told of this.
fn unwanted() -> Failure {
    Failure::new(ErrorCode::Cancelled, "nobody wants the answer any more")
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A GIF of one pixel.
    const DOT: &str = "R0lGODlhAQABAIAAAAAAAP///ywAAAAAAQABAAACAUwAOw==";

    fn one() -> Pictures {
        Pictures {
            files: vec![File {
                file: Some(PictureFile::read(DOT).expect("readable")),
                tokens: None,
            }],
        }
    }

    #[test]
    fn a_picture_that_nobody_wants_any_more_is_not_unpacked() {
        let ticket = Ticket::default();
        let shown = one().take(0, Purpose::Answer(&ticket), |_| Ok(()));
        assert_eq!(shown, Ok(Some(())));
        assert!(ticket.begin());
        assert!(!ticket.cancel());
        let shown = one().take(0, Purpose::Answer(&ticket), |_| -> Result<(), _> {
            panic!("unpacked")
        });
        assert_eq!(
            shown.map_err(|failure| failure.code),
            Err(ErrorCode::Cancelled)
        );
    }

    #[test]
    fn a_check_unpacks_nothing() {
        let shown = one().take(0, Purpose::Check, |_| -> Result<(), _> {
            panic!("unpacked")
        });
        assert_eq!(shown, Ok(None));
    }

    #[test]
    fn a_picture_has_one_place() {
        let mut pictures = one();
        assert!(pictures.check_end(&View::default(), 5).is_err());
        for (index, is_there) in [(1, false), (0, true), (0, false)] {
            let shown = pictures.take(index, Purpose::Check, |_| Ok(()));
            assert_eq!(shown.is_ok(), is_there);
        }
        assert!(pictures.check_end(&View::default(), 5).is_ok());
    }

    #[test]
    fn pixels_of_all_pictures_together_are_limited_and_both_numbers_are_told() {
        assert_eq!(check_pixels(REQUEST_PIXELS_MAX), Ok(()));
        let failure = check_pixels(REQUEST_PIXELS_MAX + 1).expect_err("too many");
        assert_eq!(failure.code, ErrorCode::InvalidRequest);
        for number in ["50000001", "50000000"] {
            assert!(failure.message.contains(number), "{failure}");
        }
    }
}
