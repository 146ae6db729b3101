//! A picture as it comes (base64 of a file that somebody sent) → pixels.
//!
//! Files come from strangers. What a file says of its size is read first ([`PictureFile`]), and a picture that would take
//! too much memory is refused before anything is unpacked, as is a request whose pictures are too large together; the
//! decoders keep to a limit of memory of their own; one that panics costs its request and nothing else. Nothing is ever
//! fetched: there are no links here.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbaImage};
use sha2::{Digest as _, Sha256};

/// Bytes of one file: more than a photograph of the largest size below has.
pub const FILE_BYTES_MAX: usize = 16 << 20;

/// Pixels of one picture: photographs of 24 megapixels. Vision models look at one or two.
pub const PIXELS_MAX: u64 = 25_000_000;

/// Pixels of all pictures of one request: two of the largest, or sixteen of three megapixels. Unpacking takes 5 to 50
/// milliseconds a megapixel, by format, and meanwhile no other prompt of the node is read: for two seconds or so at most.
pub const REQUEST_PIXELS_MAX: u64 = 2 * PIXELS_MAX;

/// How much longer one side may be than the other. Models cannot see strips, and their preparation may fail on them.
pub const SIDES_RATIO_MAX: u32 = 100;

/// Memory that a decoder may take for itself: [`PIXELS_MAX`] with four colours of 16 bits each, and some.
const DECODER_BYTES_MAX: u64 = 256 << 20;

/// Where a transparent picture shows through. Pages are white.
const BACKGROUND: u32 = 255;

/// Pixels, ready to be looked at.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
    /// Red, green and blue of each pixel, line by line.
    pub rgb: Vec<u8>,
    /// SHA-256 of the file: what is known of one picture holds for every one with this hash.
    pub hash: [u8; 32],
}

impl std::fmt::Debug for Picture {
    /// Nobody's picture belongs into a log.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Picture({} × {})", self.width, self.height)
    }
}

/// Why a picture is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    /// Something else than base64.
    #[error("its data is not standard base64 with padding")]
    NotBase64,
    /// A file that is too large.
    #[error("its file is over {} MiB; send a smaller one", FILE_BYTES_MAX >> 20)]
    TooManyBytes,
    /// Something else than a picture that can be read here.
    #[error("its file is not a PNG, JPEG, WebP, GIF or BMP; convert it")]
    UnknownFormat,
    /// Nothing to see.
    #[error("it has no pixels")]
    Empty,
    /// More pixels than anybody looks at.
    #[error("it has {width} × {height} pixels, but at most {PIXELS_MAX} are taken; scale it down")]
    TooManyPixels {
        /// As the file says.
        width: u32,
        /// As the file says.
        height: u32,
    },
    /// A strip.
    #[error(
        "it has {width} × {height} pixels, and one side is over {SIDES_RATIO_MAX} times the other; crop it"
    )]
    TooNarrow {
        /// As the file says.
        width: u32,
        /// As the file says.
        height: u32,
    },
    /// The decoder would take too much memory.
    #[error("unpacking it takes more than {} MiB of memory", DECODER_BYTES_MAX >> 20)]
    TooMuchMemory,
    /// The file breaks off or breaks its format's rules.
    #[error("its file is damaged")]
    Damaged,
}

/// A picture's file of which only the header was read.
#[derive(Clone, PartialEq, Eq)]
pub struct PictureFile {
    bytes: Vec<u8>,
    width: u32,
    height: u32,
}

impl std::fmt::Debug for PictureFile {
    /// As for [`Picture`].
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "PictureFile({} × {})", self.width, self.height)
    }
}

impl PictureFile {
    /// Reads the header of a file in base64. What comes after it may still be damaged.
    pub fn read(data: &str) -> Result<Self, PictureError> {
        // Four letters are three bytes.
        if data.len() / 4 > FILE_BYTES_MAX / 3 + 1 {
            return Err(PictureError::TooManyBytes);
        }
        let bytes = STANDARD.decode(data).map_err(|_| PictureError::NotBase64)?;
        if bytes.len() > FILE_BYTES_MAX {
            return Err(PictureError::TooManyBytes);
        }
        let (width, height) = guarded(|| size(&bytes))?;
        Ok(Self {
            bytes,
            width,
            height,
        })
    }

    /// Pixels from left to right, once the picture is turned as its file says.
    pub const fn width(&self) -> u32 {
        self.width
    }

    /// Pixels from top to bottom, likewise.
    pub const fn height(&self) -> u32 {
        self.height
    }

    /// How many pixels it has.
    pub fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// Reads all of it. Of an animation it is the first frame; what is transparent becomes white; a photograph is turned
    /// as its file says.
    pub fn unpack(&self) -> Result<Picture, PictureError> {
        let hash = Sha256::digest(&self.bytes).into();
        let image = guarded(|| unpack(&self.bytes))?;
        let (width, height) = (image.width(), image.height());
        let rgb = if image.color().has_alpha() {
            on_background(&image.into_rgba8())
        } else {
            image.into_rgb8().into_raw()
        };
        Ok(Picture {
            width,
            height,
            rgb,
            hash,
        })
    }
}

/// Reads a file in base64, all of it: [`PictureFile::read`] and [`PictureFile::unpack`].
pub fn decode(data: &str) -> Result<Picture, PictureError> {
    PictureFile::read(data)?.unpack()
}

/// A decoder that panics costs its picture.
fn guarded<T>(read: impl FnOnce() -> Result<T, PictureError>) -> Result<T, PictureError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or(Err(PictureError::Damaged))
}

/// The size that the picture will have, by its header.
fn size(file: &[u8]) -> Result<(u32, u32), PictureError> {
    let mut decoder = decoder(file)?;
    let (width, height) = decoder.dimensions();
    Ok(match orientation(&mut decoder) {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => (height, width),
        Orientation::NoTransforms
        | Orientation::Rotate180
        | Orientation::FlipHorizontal
        | Orientation::FlipVertical => (width, height),
    })
}

fn unpack(file: &[u8]) -> Result<DynamicImage, PictureError> {
    let mut decoder = decoder(file)?;
    let orientation = orientation(&mut decoder);
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| fault(&error))?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Reads a file's header; nothing is unpacked yet.
fn decoder(file: &[u8]) -> Result<impl ImageDecoder, PictureError> {
    let mut reader = ImageReader::new(Cursor::new(file))
        .with_guessed_format()
        .map_err(|_| PictureError::Damaged)?;
    match reader.format() {
        Some(
            ImageFormat::Png
            | ImageFormat::Jpeg
            | ImageFormat::WebP
            | ImageFormat::Gif
            | ImageFormat::Bmp,
        ) => {}
        _ => return Err(PictureError::UnknownFormat),
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(DECODER_BYTES_MAX);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|error| fault(&error))?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    Ok(decoder)
}

/// A file without one, or with one that cannot be read, is taken as it lies.
fn orientation(decoder: &mut impl ImageDecoder) -> Orientation {
    decoder.orientation().unwrap_or(Orientation::NoTransforms)
}

fn check_size(width: u32, height: u32) -> Result<(), PictureError> {
    if width == 0 || height == 0 {
        Err(PictureError::Empty)
    } else if u64::from(width) * u64::from(height) > PIXELS_MAX {
        Err(PictureError::TooManyPixels { width, height })
    } else if width.max(height) / width.min(height) > SIDES_RATIO_MAX {
        Err(PictureError::TooNarrow { width, height })
    } else {
        Ok(())
    }
}

fn fault(error: &ImageError) -> PictureError {
    match error {
        ImageError::Limits(_) => PictureError::TooMuchMemory,
        ImageError::Decoding(_)
        | ImageError::Encoding(_)
        | ImageError::Parameter(_)
        | ImageError::Unsupported(_)
        | ImageError::IoError(_) => PictureError::Damaged,
    }
}

fn on_background(image: &RgbaImage) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(image.as_raw().len() / 4 * 3);
    for pixel in image.pixels() {
        let [red, green, blue, alpha] = pixel.0.map(u32::from);
        rgb.extend([red, green, blue].map(|colour| {
            let mixed = (colour * alpha + BACKGROUND * (255 - alpha) + 127) / 255;
            u8::try_from(mixed).unwrap_or(u8::MAX)
        }));
    }
    rgb
}

#[cfg(test)]
mod tests;
