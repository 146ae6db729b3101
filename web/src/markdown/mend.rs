//! Half a line of Markdown, made presentable.
//!
//! While `**bol` waits for its end, it is shown as bold; a line that is only marks so far (a fence, a dash that
//! would turn the line above into a heading) is held back until it says what it is.

use std::borrow::Cow;

/// The text with its last line mended; unchanged where that line is whole.
pub(super) fn mend(text: &str) -> Cow<'_, str> {
    let line_start = text.rfind('\n').map_or(0, |newline| newline + 1);
    let (before, line) = text.split_at(line_start);
    let bare = line.trim_start_matches([' ', '>', '\t']);
    if line.is_empty() {
        return Cow::Borrowed(text);
    }
    if only_marks(bare) || bare.starts_with("```") || bare.starts_with("~~~") {
        return Cow::Borrowed(before);
    }
    if in_fence(before) {
        return Cow::Borrowed(text);
    }
    let (kept, ends) = close(line);
    if ends.is_empty() && kept.len() == line.len() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{before}{kept}{ends}"))
}

fn only_marks(line: &str) -> bool {
    !line.is_empty()
        && line.chars().all(|c| {
            matches!(
                c,
                '-' | '=' | '*' | '+' | '#' | '`' | '~' | '_' | ' ' | '|' | ':'
            )
        })
}

/// Whether whole lines leave a fence open. Approximate (any mark closes any other), which only costs prettiness.
fn in_fence(lines: &str) -> bool {
    lines
        .lines()
        .map(|line| line.trim_start_matches([' ', '>', '\t', '-', '*']))
        .filter(|line| line.starts_with("```") || line.starts_with("~~~"))
        .count()
        % 2
        == 1
}

/// What of a line to show, and the marks that close what it leaves open.
fn close(line: &str) -> (&str, &'static str) {
    let (in_code, in_strong) = scan(line);
    if in_code {
        let kept = line.trim_end_matches('`');
        return if scan(kept).0 {
            (kept, "`")
        } else {
            (kept, "")
        };
    }
    if !in_strong {
        // A last `*` or `**` may be an opening whose word has yet to come.
        return (line, "");
    }
    let kept = line.trim_end_matches([' ', '*']);
    if scan(kept).1 {
        (kept, "**")
    } else {
        (kept, "")
    }
}

/// Whether the line ends within a code span, and within `**`.
fn scan(line: &str) -> (bool, bool) {
    let mut code = false;
    let mut strong = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if !code => {
                chars.next();
            }
            '`' => code = !code,
            '*' if !code && chars.peek() == Some(&'*') => {
                chars.next();
                strong = !strong;
            }
            _ => {}
        }
    }
    (code, strong)
}
