//! The relay's brain: registry, queue, placement, leases; sans-IO.
