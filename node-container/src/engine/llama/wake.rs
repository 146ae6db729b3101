//! Threads beside the engine whose end the engine has to notice.

use tokio::sync::mpsc::WeakUnboundedSender;

use crate::engine::Command;

/// Lets the engine look again when a thread beside it is gone.
pub(super) struct WakeAtEnd<'w>(pub(super) &'w WeakUnboundedSender<Command>);

impl Drop for WakeAtEnd<'_> {
    fn drop(&mut self) {
        if let Some(engine) = self.0.upgrade() {
            // Fails where the loop has ended already.
            drop(engine.send(Command::Wake));
        }
    }
}
