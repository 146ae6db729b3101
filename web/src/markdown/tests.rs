//! What Markdown becomes, above all where the text is hostile.

use super::{Alignment, Document, Node, Tag, parse, safe_href, spoken};

fn text(text: &str) -> Node {
    Node::Text(text.to_owned())
}

fn element(tag: Tag, children: impl Into<Vec<Node>>) -> Node {
    Node::Element(tag, children.into())
}

fn paragraph(words: &str) -> Node {
    element(Tag::Paragraph, [text(words)])
}

fn tags(nodes: &[Node], found: &mut Vec<Tag>) {
    for node in nodes {
        if let Node::Element(tag, children) = node {
            found.push(tag.clone());
            tags(children, found);
        }
    }
}

fn depth(nodes: &[Node]) -> usize {
    let below = nodes.iter().map(|node| match node {
        Node::Text(_) => 0,
        Node::Element(_, children) => 1 + depth(children),
    });
    below.max().unwrap_or(0)
}

/// Feeds a text in pieces; what a page shows at the end, and after each piece.
fn streamed(whole: &str, piece_chars: usize) -> (Vec<Node>, Vec<Vec<Node>>) {
    let mut document = Document::new();
    let mut settled = Vec::new();
    let mut shown = Vec::new();
    let chars: Vec<char> = whole.chars().collect();
    for piece in chars.chunks(piece_chars) {
        let update = document.push(&piece.iter().collect::<String>());
        settled.extend(update.settled);
        shown.push([settled.clone(), update.open].concat());
    }
    settled.extend(document.finish(true).settled);
    (settled, shown)
}

const TOUR: &str = "# Colours\n\nThree **primary** colours:\n\n1. red\n2. *yellow*\n   - warm\n\n3. blue\n\n> light is ~~white~~ mixed\n\n```rust\nfn main() {}\n\n// end\n```\n\n| a | b |\n|:-:|--:|\n| `x` | y |\n\n---\nThe [end](https://example.org/a?b=c).\n";

#[test]
fn ordinary_markdown_becomes_elements() {
    let nodes = parse("# A *b*\n\nc `d`  \ne\n\n```rust,ignore\nlet x;\n```\n");
    assert_eq!(
        nodes,
        [
            element(
                Tag::Heading(1),
                [text("A "), element(Tag::Emphasis, [text("b")])]
            ),
            element(
                Tag::Paragraph,
                [
                    text("c "),
                    element(Tag::Code, [text("d")]),
                    element(Tag::Break, []),
                    text("e")
                ]
            ),
            element(Tag::CodeBlock("rust".to_owned()), [text("let x;")]),
        ]
    );
}

#[test]
fn tables_keep_their_alignment() {
    let nodes = parse("|a|b|\n|:-:|--:|\n|c|d|\n");
    let row = |first: Tag, a, second: Tag, b| {
        element(
            Tag::Row,
            [element(first, [text(a)]), element(second, [text(b)])],
        )
    };
    assert_eq!(
        nodes,
        [element(
            Tag::Table,
            [
                row(
                    Tag::HeadCell(Alignment::Middle),
                    "a",
                    Tag::HeadCell(Alignment::End),
                    "b"
                ),
                row(
                    Tag::Cell(Alignment::Middle),
                    "c",
                    Tag::Cell(Alignment::End),
                    "d"
                ),
            ]
        )]
    );
}

#[test]
fn raw_html_stays_text() {
    let nodes = parse("<script>alert(1)</script>\n\na <b onclick=\"x()\">c</b>\n");
    assert_eq!(
        nodes,
        [
            paragraph("<script>alert(1)</script>\n"),
            paragraph("a <b onclick=\"x()\">c</b>")
        ]
    );
}

#[test]
fn links_that_could_run_code_are_only_text() {
    for url in [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "java&#10;script:alert(1)",
        "&#106;avascript:alert(1)",
        "data:text/html;base64,AAAA",
        "vbscript:x",
        "file:///etc/passwd",
        "//example.org",
        "/v1/models",
        "blob:https://example.org/1",
    ] {
        for markdown in [
            format!("[a]({url})"),
            format!("[a](<{url}>)"),
            format!("[a][b]\n\n[b]: {url}\n"),
            format!("<{url}>"),
        ] {
            let mut found = Vec::new();
            tags(&parse(&markdown), &mut found);
            assert!(
                found.iter().all(|tag| *tag == Tag::Paragraph),
                "{markdown}: {found:?}"
            );
        }
    }
    assert_eq!(parse("[a](javascript:b)"), [paragraph("a")]);
}

#[test]
fn links_to_the_web_and_to_mail_are_links() {
    for url in [
        "https://example.org/",
        "HTTP://example.org",
        "mailto:a@example.org",
    ] {
        assert_eq!(safe_href(url).as_deref(), Some(url));
    }
    assert_eq!(safe_href("https://exam\u{0}ple.org"), None);
    assert_eq!(
        parse("<a@example.org>"),
        [element(
            Tag::Paragraph,
            [element(
                Tag::Link("mailto:a@example.org".to_owned()),
                [text("a@example.org")]
            )]
        )]
    );
}

#[test]
fn images_are_named_and_never_fetched() {
    assert_eq!(
        parse("![a **cat**](https://example.org/cat.png \"title\")"),
        [element(
            Tag::Paragraph,
            [element(
                Tag::Image,
                [text("Image: a cat (https://example.org/cat.png)")]
            )]
        )]
    );
    let huge = format!("![]({}{})", "data:image/png;base64,", "A".repeat(100_000));
    assert!(format!("{:?}", parse(&huge)).len() < 400);
}

#[test]
fn nesting_is_bounded_and_loses_no_text() {
    for markdown in [
        format!("{}deep", "> ".repeat(3000)),
        format!("{}deep", "- ".repeat(3000)),
        format!("{}deep{}", "*".repeat(3001), "*".repeat(3001)),
        format!("{}deep{}", "[".repeat(3000), "](https://a)".repeat(3000)),
        format!("{}deep", "![".repeat(3000)),
    ] {
        let nodes = parse(&markdown);
        assert!(depth(&nodes) <= 26, "{}", depth(&nodes));
        assert!(format!("{nodes:?}").contains("deep"));
    }
}

#[test]
fn text_in_pieces_ends_as_the_whole_text() {
    let whole = parse(TOUR);
    for piece_chars in [1, 2, 3, 7, 50, 1000] {
        assert_eq!(streamed(TOUR, piece_chars).0, whole, "{piece_chars}");
    }
}

#[test]
fn half_an_answer_never_shows_marks_that_will_vanish() {
    let (_, shown) = streamed(TOUR, 1);
    for nodes in shown {
        let words = format!("{nodes:?}");
        assert!(!words.contains("**") && !words.contains("```"), "{words}");
    }
}

#[test]
fn an_open_fence_is_a_code_block() {
    let (_, shown) = streamed("Look:\n```py\nprint(1)\n``", 1000);
    assert_eq!(
        shown,
        [[
            paragraph("Look:"),
            element(Tag::CodeBlock("py".to_owned()), [text("print(1)")])
        ]]
    );
}

#[test]
fn a_dash_below_a_line_does_not_make_it_a_heading() {
    let (whole, shown) = streamed("Colours:\n- red", 1);
    let mut found = Vec::new();
    for nodes in &shown {
        tags(nodes, &mut found);
    }
    assert!(!found.iter().any(|tag| matches!(tag, Tag::Heading(_))));
    assert_eq!(whole.len(), 2);
}

#[test]
fn an_answer_that_broke_off_stays_mended() {
    let mut document = Document::new();
    document.push("one **two");
    assert_eq!(
        document.finish(false).settled,
        [element(
            Tag::Paragraph,
            [text("one "), element(Tag::Strong, [text("two")])]
        )]
    );
    document.push("one **two");
    assert_eq!(document.finish(true).settled, [paragraph("one **two")]);
}

#[test]
fn settled_blocks_are_not_parsed_again() {
    let mut document = Document::new();
    let first = document.push("one\n\ntwo\n\nth");
    assert_eq!(first.settled, [paragraph("one")]);
    let second = document.push("ree\n\n4");
    assert_eq!(second.settled, [paragraph("two")]);
    assert_eq!(second.open.len(), 2);
}

#[test]
fn any_text_in_any_pieces_is_taken() {
    let nasty = "\u{0}\r\n\t- \u{feff}a\r> ```\n<!--\n&#0;&#x110000;[^1]\n|x\n|-\n$$\n\\\n* * *\n\u{202e}🦀``` `";
    for piece_chars in 1..8 {
        let (nodes, _) = streamed(nasty, piece_chars);
        assert!(!nodes.is_empty());
    }
}

#[test]
fn speech_names_code_and_drops_marks() {
    assert_eq!(
        spoken(&parse(
            "# Hi\n\nTwo **words**.\n\n```rust\nx\n```\n\n- a\n- b\n"
        )),
        "Hi Two words. Code block: rust. a b"
    );
}
