//! Rewriting a question, and where the focus goes when a control is gone.

use leptos::prelude::*;

use super::Chat;
use crate::browser;
use crate::edits::Edits;
use crate::state::MessageId;

impl Chat {
    /// Opens a question to be rewritten.
    pub(crate) fn edit(&self, message: MessageId) {
        self.change_edits(|edits| edits.start(message));
    }

    /// Keeps what stands in a question's editor.
    pub(crate) fn write_edit(&self, message: MessageId, text: String, question: &str) {
        self.change_edits(|edits| edits.write(message, text, question));
    }

    /// Closes the open editor, if there is one; its text is there when it is opened again.
    pub(crate) fn close_editor(&self) {
        let open = self.edits.with_untracked(Edits::open);
        if let Some(message) = open {
            self.change_edits(Edits::close);
            self.leave(Some(message));
        }
    }

    /// Closes an editor for good.
    pub(crate) fn give_up_edit(&self, message: MessageId) {
        self.discard_edit(message);
        self.leave(Some(message));
    }

    pub(super) fn discard_edit(&self, message: MessageId) {
        self.change_edits(|edits| edits.discard(message));
    }

    /// Lets go of texts whose questions are gone for good.
    pub(super) fn forget_edits(&self) {
        let kept = self.edits.get_untracked();
        let mut left = kept.clone();
        // A deleted conversation may still come back, and its texts with it.
        let may_come_back = self.state.with_untracked(|state| {
            left.retain(state.messages());
            state.can_undo()
        });
        if !may_come_back && left != kept {
            self.change_edits(|edits| *edits = left);
        }
    }

    pub(super) fn change_edits(&self, change: impl FnOnce(&mut Edits)) {
        self.edits.update(change);
        browser::save(browser::EDITS, &self.edits.with_untracked(Edits::to_text));
    }

    /// Leaves a control that goes away, for the composer; without a keyboard for this message, or the last one.
    pub(super) fn leave(&self, message: Option<MessageId>) {
        if browser::has_keyboard() {
            self.focus.update(|count| *count += 1);
        } else {
            browser::focus_reading(message);
        }
    }
}
