//! Tiers and models as data: parses and validates catalog.toml.
