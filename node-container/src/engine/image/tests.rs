//! Pictures that are read, and those that are refused before they cost anything.

use image::{ExtendedColorType, ImageEncoder as _, Rgb, RgbImage, Rgba};
use proptest::prelude::*;

use super::*;

fn file(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("writes");
    bytes.into_inner()
}

fn see(file: &[u8]) -> Result<Picture, PictureError> {
    decode(&STANDARD.encode(file))
}

fn byte(number: u32) -> u8 {
    u8::try_from(number).expect("small")
}

fn checked() -> DynamicImage {
    RgbImage::from_fn(6, 4, |x, y| Rgb([byte(x * 40), byte(y * 60), 7])).into()
}

/// A PNG that says it has so many pixels, and holds nothing.
fn png_of(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8; 4], data: &[u8]| {
        bytes.extend(u32::try_from(data.len()).expect("small").to_be_bytes());
        let body = [kind, data].concat();
        bytes.extend(&body);
        bytes.extend(crc32(&body).to_be_bytes());
    };
    let header = [
        &width.to_be_bytes()[..],
        &height.to_be_bytes(),
        &[8, 2, 0, 0, 0],
    ];
    chunk(b"IHDR", &header.concat());
    chunk(b"IDAT", &[]);
    chunk(b"IEND", &[]);
    bytes
}

/// The checksum of PNG's chunks, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn pixels_of_lossless_formats_come_as_they_are() {
    let image = checked();
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP] {
        let picture = see(&file(&image, format)).expect("readable");
        assert_eq!((picture.width, picture.height), (6, 4));
        assert_eq!(picture.rgb, image.to_rgb8().into_raw(), "{format:?}");
    }
}

#[test]
fn a_jpeg_comes_almost_as_it_is() {
    let image: DynamicImage = RgbImage::from_pixel(16, 16, Rgb([200, 100, 50])).into();
    let picture = see(&file(&image, ImageFormat::Jpeg)).expect("readable");
    let wanted = [200u8, 100, 50].into_iter().cycle();
    assert!(
        picture
            .rgb
            .iter()
            .zip(wanted)
            .all(|(is, wanted)| is.abs_diff(wanted) < 8)
    );
}

#[test]
fn of_an_animation_it_is_the_first_frame() {
    let frame = |colour: [u8; 3]| {
        let [red, green, blue] = colour;
        image::Frame::new(RgbaImage::from_pixel(4, 4, Rgba([red, green, blue, 255])))
    };
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
    encoder
        .encode_frames([frame([255, 0, 0]), frame([0, 0, 255])])
        .expect("writes");
    drop(encoder);
    let picture = see(&bytes).expect("readable");
    assert_eq!(&picture.rgb[..3], &[255, 0, 0]);
}

#[test]
fn what_is_transparent_becomes_white() {
    let image = RgbaImage::from_fn(2, 1, |x, _| Rgba([0, 0, 0, if x == 0 { 0 } else { 128 }]));
    let picture = see(&file(&image.into(), ImageFormat::Png)).expect("readable");
    assert_eq!(picture.rgb, [255, 255, 255, 127, 127, 127]);
}

#[test]
fn a_photograph_is_turned_as_its_file_says() {
    // Exif: little-endian, one entry: orientation (0x0112) 6, a quarter turn to the right.
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    encoder.set_exif_metadata(exif).expect("takes it");
    encoder
        .write_image(&[255, 0, 0, 0, 0, 255], 2, 1, ExtendedColorType::Rgb8)
        .expect("writes");
    let picture = see(&bytes).expect("readable");
    assert_eq!((picture.width, picture.height), (1, 2));
    assert_eq!(picture.rgb, [255, 0, 0, 0, 0, 255]);
    let header = PictureFile::read(&STANDARD.encode(&bytes)).expect("readable");
    assert_eq!((header.width(), header.height()), (1, 2));
}

#[test]
fn the_header_of_a_file_tells_its_size_although_the_rest_is_damaged() {
    let read = |file: &[u8]| PictureFile::read(&STANDARD.encode(file));
    let damaged = read(&png_of(3000, 2000)).expect("a header");
    assert_eq!((damaged.width(), damaged.height()), (3000, 2000));
    assert_eq!(damaged.pixels(), 6_000_000);
    assert_eq!(damaged.unpack(), Err(PictureError::Damaged));
    for format in [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::WebP,
        ImageFormat::Gif,
        ImageFormat::Bmp,
    ] {
        let header = read(&file(&checked(), format)).expect("a header");
        assert_eq!((header.width(), header.height()), (6, 4), "{format:?}");
    }
}

#[test]
fn the_same_file_has_the_same_hash_and_another_another() {
    let [png, bmp] = [ImageFormat::Png, ImageFormat::Bmp].map(|format| {
        let file = file(&checked(), format);
        [see(&file), see(&file)].map(|picture| picture.expect("readable").hash)
    });
    assert_eq!(png[0], png[1]);
    assert_ne!(png[0], bmp[0]);
}

#[test]
fn a_bomb_is_refused_by_its_header() {
    let bomb = |width, height| see(&png_of(width, height));
    let (width, height) = (20_000, 20_000);
    assert_eq!(
        bomb(width, height),
        Err(PictureError::TooManyPixels { width, height })
    );
    // Beyond what the decoders themselves believe.
    assert!(matches!(
        bomb(0x7fff_ffff, 0x7fff_ffff),
        Err(PictureError::TooManyPixels { .. }
            | PictureError::TooMuchMemory
            | PictureError::Damaged)
    ));
}

#[test]
fn pictures_of_no_use_are_refused() {
    assert!(matches!(
        see(&png_of(0, 0)),
        Err(PictureError::Empty | PictureError::Damaged)
    ));
    assert_eq!(
        see(&png_of(5000, 20)),
        Err(PictureError::TooNarrow {
            width: 5000,
            height: 20
        })
    );
    assert_eq!(see(&png_of(8, 8)), Err(PictureError::Damaged));
    assert_eq!(see(b"%PDF-1.7"), Err(PictureError::UnknownFormat));
    assert_eq!(see(b"<svg/>"), Err(PictureError::UnknownFormat));
    assert_eq!(see(&[]), Err(PictureError::UnknownFormat));
}

#[test]
fn what_is_not_base64_is_refused() {
    for data in ["!", "QUJ", "QUI=\n", "https://example.com/cat.png"] {
        assert_eq!(decode(data), Err(PictureError::NotBase64), "{data}");
    }
    let long = "A".repeat((FILE_BYTES_MAX / 3 + 2) * 4);
    assert_eq!(decode(&long), Err(PictureError::TooManyBytes));
}

#[test]
fn every_truncation_is_refused_or_read_and_nothing_panics() {
    for format in [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::WebP,
        ImageFormat::Gif,
        ImageFormat::Bmp,
    ] {
        let file = file(&checked(), format);
        for length in 0..file.len() {
            let truncated = file.get(..length).expect("a beginning");
            // Through `unpack`, which nothing guards.
            drop(unpack(truncated));
        }
        let half = file.get(..file.len() / 2).expect("a beginning");
        assert!(see(half).is_err(), "{format:?}");
    }
}

proptest! {
    #[test]
    fn perturbed_files_never_break_anything(
        which in 0..5usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let formats = [
            ImageFormat::Png,
            ImageFormat::Jpeg,
            ImageFormat::WebP,
            ImageFormat::Gif,
            ImageFormat::Bmp,
        ];
        let mut file = file(&checked(), formats[which]);
        for (index, byte) in changes {
            let at = index.index(file.len());
            file[at] = byte;
        }
        if let Ok(picture) = see(&file) {
            let pixels = picture.width as usize * picture.height as usize;
            prop_assert_eq!(picture.rgb.len(), pixels * 3);
        }
    }
}
