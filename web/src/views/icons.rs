//! Line drawings, 16 by 16, in the colour of the text around them. Names are said by the buttons that hold them.

use leptos::prelude::*;

fn drawn(path: &'static str) -> impl IntoView {
    view! {
        <svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
            <path d=path></path>
        </svg>
    }
}

pub(crate) fn send() -> impl IntoView {
    drawn("M8 13V3M3.5 7.5 8 3l4.5 4.5")
}

pub(crate) fn stop() -> impl IntoView {
    drawn("M4.5 4.5h7v7h-7z")
}

pub(crate) fn plus() -> impl IntoView {
    drawn("M8 3v10M3 8h10")
}

pub(crate) fn copy() -> impl IntoView {
    drawn("M5.5 5.5h7v8h-7zM3.5 10.5v-8h7")
}

pub(crate) fn check() -> impl IntoView {
    drawn("M3 8.5 6.5 12 13 4.5")
}

pub(crate) fn edit() -> impl IntoView {
    drawn("M3 13v-2.5L10.5 3 13 5.5 5.5 13zM9 4.5 11.5 7")
}

pub(crate) fn again() -> impl IntoView {
    drawn("M13 8a5 5 0 1 1-1.6-3.7M13 2.5v3h-3")
}

pub(crate) fn down() -> impl IntoView {
    drawn("M8 3v10M3.5 8.5 8 13l4.5-4.5")
}

/// A mirror that catches the sun.
pub(crate) fn mark() -> impl IntoView {
    view! {
        <svg class="mark" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
            <circle cx="12" cy="12" r="4.5"></circle>
            <path d="M12 1.8v3M12 19.2v3M1.8 12h3M19.2 12h3M4.8 4.8l2.1 2.1M17.1 17.1l2.1 2.1M4.8 19.2l2.1-2.1M17.1 6.9l2.1-2.1"></path>
        </svg>
    }
}
