//! Wire types and codecs of heliograph.v1; no IO, no clock.
