//! Where the connection to the relay stands.

/// The connection as a person sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Link {
    /// The first try.
    #[default]
    Connecting,
    /// Jobs can be sent.
    Open,
    /// It was lost; the next try comes by itself.
    Reconnecting,
    /// The browser says that there is no network.
    Offline,
    /// The relay wants a key, or another one.
    KeyNeeded {
        /// One was shown and refused.
        refused: bool,
    },
    /// The relay will not have this page as it is.
    Broken {
        /// The WebSocket's close code.
        code: u16,
    },
}
