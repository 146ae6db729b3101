//! `catalog.toml`: a consistent catalog, or an error whose line exists.

#![no_main]

use catalog::Catalog;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Catalog::parse(text) {
        Ok(catalog) => {
            for tier in catalog.tiers() {
                assert_eq!(catalog.resolve(&tier.id).len(), tier.models.len());
            }
        }
        Err(error) => assert!((1..=1 + text.matches('\n').count()).contains(&error.line)),
    }
});
