//! The relay: a Cloudflare Worker with the Durable Object Pool.
