//! The style sheet's colours can be read: contrast as WCAG 2 counts it, in light and in dark.

use std::collections::BTreeMap;

const STYLE: &str = include_str!("../static/style.css");

/// Text on its ground: 4.5 to 1.
const TEXT: [(&str, &str); 13] = [
    ("ink", "ground"),
    ("ink", "raised"),
    ("ink", "sunk"),
    ("ink", "failure-ground"),
    ("ink-quiet", "ground"),
    ("ink-quiet", "raised"),
    ("ink-quiet", "sunk"),
    ("on-accent", "accent"),
    ("on-accent", "accent-over"),
    ("accent-ink", "ground"),
    ("accent-ink", "raised"),
    ("failure", "failure-ground"),
    ("failure", "raised"),
];

/// Outlines and signs: 3 to 1.
const SIGNS: [(&str, &str); 6] = [
    ("edge", "ground"),
    ("edge", "raised"),
    ("edge", "failure-ground"),
    ("focus", "ground"),
    ("focus", "raised"),
    ("on", "ground"),
];

type Colours = BTreeMap<&'static str, [f64; 3]>;

fn colours(block: &'static str) -> Colours {
    block
        .lines()
        .filter_map(|line| {
            let (name, value) = line.trim().strip_prefix("--")?.split_once(": #")?;
            let value = u32::from_str_radix(value.trim_end_matches(';'), 16).ok()?;
            let part = |shift: u32| f64::from((value >> shift) & 0xff) / 255.0;
            Some((name, [part(16), part(8), part(0)]))
        })
        .collect()
}

fn luminance(colour: [f64; 3]) -> f64 {
    let linear = colour.map(|part| {
        if part <= 0.04045 {
            part / 12.92
        } else {
            ((part + 0.055) / 1.055).powf(2.4)
        }
    });
    0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
}

fn contrast(colours: &Colours, front: &str, ground: &str) -> f64 {
    let (a, b) = (luminance(colours[front]), luminance(colours[ground]));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn every_text_and_sign_stands_out_from_its_ground() {
    let (light, rest) = STYLE
        .split_once("@media (prefers-color-scheme: dark)")
        .unwrap();
    let (dark, _) = rest.split_once("box-sizing").unwrap();
    let light = colours(light);
    let dark = light.clone().into_iter().chain(colours(dark)).collect();
    for (scheme, colours) in [("light", &light), ("dark", &dark)] {
        for (pairs, least) in [(&TEXT[..], 4.5), (&SIGNS[..], 3.0)] {
            for (front, ground) in pairs {
                let contrast = contrast(colours, front, ground);
                assert!(
                    contrast >= least,
                    "{scheme}: {front} on {ground} is {contrast:.2}"
                );
            }
        }
    }
}
