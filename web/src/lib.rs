//! The pages: chat.
