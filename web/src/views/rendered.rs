//! An answer's nodes on the page, changed in place while it grows.
//!
//! Elements are made one by one from [`Tag`]; no HTML is ever parsed. Only what differs is touched, so that a selection
//! in the text above survives and each frame costs the last block.

use leptos::prelude::document;
use wasm_bindgen::JsCast;
use web_sys::{CharacterData, Element};

use crate::markdown::{Alignment, Document, Node, Tag, Update};
use crate::state::Phase;

/// One answer's place on the page.
#[derive(Debug)]
pub(crate) struct Rendered {
    root: Element,
    document: Document,
    /// Bytes of the answer that are in `document`.
    taken: usize,
    /// Children of `root` that change no more.
    settled: u32,
    /// The children after them, as they look.
    open: Vec<Node>,
}

impl Rendered {
    /// An empty answer below `root`, which from now on belongs to it alone.
    pub(crate) fn new(root: Element) -> Self {
        // Leptos leaves a comment in an element without children; here a child's place is its index.
        root.set_text_content(None);
        Self {
            root,
            document: Document::new(),
            taken: 0,
            settled: 0,
            open: Vec::new(),
        }
    }

    /// Shows the answer as far as it has come. Text only ever grows.
    pub(crate) fn show(&mut self, text: &str, phase: &Phase) {
        let fresh = text.get(self.taken..).unwrap_or_default();
        self.taken = text.len();
        if !fresh.is_empty() {
            let update = self.document.push(fresh);
            self.apply(update);
        }
        if phase.is_final() {
            let is_whole = match phase {
                Phase::Done(_) => true,
                Phase::Unsent
                | Phase::Sent
                | Phase::Queued { .. }
                | Phase::Reading
                | Phase::Thinking
                | Phase::Streaming
                | Phase::Reconnecting
                | Phase::Stopped
                | Phase::Failed(_) => false,
            };
            let update = self.document.finish(is_whole);
            self.apply(update);
        }
    }

    fn apply(&mut self, update: Update) {
        let settled = u32::try_from(update.settled.len()).unwrap_or(u32::MAX);
        let new = [update.settled, update.open.clone()].concat();
        patch(&self.root, self.settled, &self.open, &new);
        self.settled = self.settled.saturating_add(settled);
        self.open = update.open;
    }
}

/// Makes the children of `parent` from `base` on, which look like `old`, look like `new`.
fn patch(parent: &Element, base: u32, old: &[Node], new: &[Node]) {
    let mut index = base;
    let mut before = old.iter();
    let children = parent.child_nodes();
    for node in new {
        let child = children.item(index);
        match (before.next(), child) {
            (Some(old), Some(child)) => {
                if old != node && !patch_node(&child, old, node) {
                    drop(parent.replace_child(&made(node), &child));
                }
            }
            (_, _) => drop(parent.append_child(&made(node))),
        }
        index += 1;
    }
    while let Some(extra) = children.item(index) {
        drop(parent.remove_child(&extra));
    }
}

/// Changes a child in place; `false` where it has to be replaced.
fn patch_node(child: &web_sys::Node, old: &Node, new: &Node) -> bool {
    match (old, new) {
        (Node::Text(old), Node::Text(new)) => {
            let Some(text) = child.dyn_ref::<CharacterData>() else {
                return false;
            };
            match new.strip_prefix(old.as_str()) {
                Some(more) => drop(text.append_data(more)),
                None => text.set_data(new),
            }
            true
        }
        (Node::Element(old_tag, old), Node::Element(new_tag, new)) if old_tag == new_tag => {
            let Some(inner) = child
                .dyn_ref::<Element>()
                .and_then(|element| content(element, new_tag))
            else {
                return false;
            };
            patch(&inner, 0, old, new);
            true
        }
        (Node::Text(_) | Node::Element(..), Node::Text(_) | Node::Element(..)) => false,
    }
}

/// Where an element's children go.
fn content(element: &Element, tag: &Tag) -> Option<Element> {
    match tag {
        // figure > pre > code, and div > table > tbody
        Tag::CodeBlock(_) => element.last_element_child()?.first_element_child(),
        Tag::Table => element.first_element_child()?.first_element_child(),
        Tag::Paragraph
        | Tag::Heading(_)
        | Tag::Quote
        | Tag::Bullets
        | Tag::Numbers(_)
        | Tag::Item
        | Tag::Code
        | Tag::Emphasis
        | Tag::Strong
        | Tag::Strikethrough
        | Tag::Link(_)
        | Tag::Image
        | Tag::Row
        | Tag::HeadCell(_)
        | Tag::Cell(_)
        | Tag::Rule
        | Tag::Break => Some(element.clone()),
    }
}

fn made(node: &Node) -> web_sys::Node {
    match node {
        Node::Text(text) => document().create_text_node(text).into(),
        Node::Element(tag, children) => {
            let element = shell(tag);
            if let Some(inner) = content(&element, tag) {
                for child in children {
                    drop(inner.append_child(&made(child)));
                }
            }
            element.into()
        }
    }
}

fn shell(tag: &Tag) -> Element {
    match tag {
        Tag::Paragraph => element("p", &[]),
        // The page's own headings are levels 1 and 2.
        Tag::Heading(1 | 2) => element("h3", &[]),
        Tag::Heading(3) => element("h4", &[]),
        Tag::Heading(4) => element("h5", &[]),
        Tag::Heading(_) => element("h6", &[]),
        Tag::Quote => element("blockquote", &[]),
        Tag::Bullets => element("ul", &[]),
        Tag::Numbers(first) => element("ol", &[("start", &first.to_string())]),
        Tag::Item => element("li", &[]),
        Tag::CodeBlock(language) => code_block(language),
        Tag::Code => element("code", &[]),
        Tag::Emphasis => element("em", &[]),
        Tag::Strong => element("strong", &[]),
        Tag::Strikethrough => element("s", &[]),
        Tag::Link(href) => element(
            "a",
            &[
                ("href", href),
                ("target", "_blank"),
                ("rel", "noopener noreferrer nofollow"),
            ],
        ),
        Tag::Image => element("span", &[("class", "image")]),
        Tag::Table => table(),
        Tag::Row => element("tr", &[]),
        Tag::HeadCell(alignment) => {
            element("th", &[("scope", "col"), ("class", class_of(*alignment))])
        }
        Tag::Cell(alignment) => element("td", &[("class", class_of(*alignment))]),
        Tag::Rule => element("hr", &[]),
        Tag::Break => element("br", &[]),
    }
}

fn code_block(language: &str) -> Element {
    let label = element("span", &[]);
    label.set_text_content(Some(if language.is_empty() {
        "code"
    } else {
        language
    }));
    let button = element(
        "button",
        &[
            ("type", "button"),
            ("class", "copy-code"),
            ("data-copy", ""),
            ("aria-label", "Copy code"),
        ],
    );
    button.set_text_content(Some("Copy"));
    let caption = element("figcaption", &[]);
    let code = element("pre", &[("tabindex", "0")]);
    let figure = element("figure", &[("class", "code")]);
    for (parent, child) in [
        (&caption, &label),
        (&caption, &button),
        (&code, &element("code", &[])),
        (&figure, &caption),
        (&figure, &code),
    ] {
        drop(parent.append_child(child));
    }
    figure
}

fn table() -> Element {
    let body = element("tbody", &[]);
    let table = element("table", &[]);
    let frame = element(
        "div",
        &[
            ("class", "table"),
            ("tabindex", "0"),
            ("role", "region"),
            ("aria-label", "Table"),
        ],
    );
    drop(table.append_child(&body));
    drop(frame.append_child(&table));
    frame
}

const fn class_of(alignment: Alignment) -> &'static str {
    match alignment {
        Alignment::Start => "start-cell",
        Alignment::Middle => "middle-cell",
        Alignment::End => "end-cell",
    }
}

/// One of the names above; never one that a model wrote.
#[expect(
    clippy::expect_used,
    reason = "invariant: the names are literals that every browser knows"
)]
fn element(name: &'static str, attributes: &[(&str, &str)]) -> Element {
    let element = document().create_element(name).expect("a known element");
    for (attribute, value) in attributes {
        drop(element.set_attribute(attribute, value));
    }
    element
}
