//! Whole-system tests: real workerd, real nodes, real Chromium.
