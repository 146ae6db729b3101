//! The OpenAI dialect: requests in, chunks and errors out; no IO.
