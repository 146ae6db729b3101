//! What is offered decides what a call is.

use super::*;

const TWO: &str = "<tool_call>{\"name\": \"add\", \"arguments\": {}}</tool_call>\n<tool_call>{\"name\": \"sum\", \"arguments\": {}}</tool_call>\nx";

fn read_with(change: impl Fn(&mut ChatRequest)) -> Vec<Piece> {
    let mut request = request(&["add", "sum"]);
    change(&mut request);
    let parser = Parser::new(syntax(HERMES), &request, "");
    seen(&parse_pieces(parser, [TWO]))
}

#[test]
fn without_tools_calls_are_text() {
    assert_eq!(read_with(|request| request.tools.clear()), [text(TWO)]);
    assert_eq!(
        read_with(|request| request.tool_choice = ToolChoice::None),
        [text(TWO)]
    );
}

#[test]
fn only_as_many_calls_are_made_as_may_be() {
    assert_eq!(
        read_with(|request| request.parallel_tool_calls = Some(true)),
        [call("add", "{}"), call("sum", "{}"), text("x")]
    );
    assert_eq!(
        read_with(|request| request.parallel_tool_calls = Some(false)),
        [call("add", "{}")]
    );
    let choice = ToolChoice::Function {
        name: "sum".to_owned(),
    };
    assert_eq!(
        read_with(|request| request.tool_choice = choice.clone()),
        [
            text("<tool_call>{\"name\": \"add\", \"arguments\": {}}</tool_call>"),
            call("sum", "{}")
        ]
    );
}

#[test]
fn an_endless_row_of_calls_ends() {
    let raw = "<tool_call>{\"name\": \"add\", \"arguments\": {}}</tool_call>".repeat(40);
    let mut parser = Parser::new(syntax(HERMES), &request(&["add"]), "");
    parser.push(&raw, &mut Vec::new());
    assert!(parser.is_over());
    assert_eq!(parser.calls(), CALLS_MAX);
}

#[test]
fn ids_are_nine_letters_or_digits_and_depend_on_request_and_index() {
    let ids = CallIds::of(&request(&["add"]));
    let id = ids.id(0);
    assert_eq!(id.len(), 9);
    assert!(id.chars().all(|c| c.is_ascii_alphanumeric()));
    assert_eq!(CallIds::of(&request(&["add"])).id(0), id);
    assert_ne!(ids.id(1), id);
    assert_ne!(CallIds::of(&request(&["sum"])).id(0), id);
}

#[test]
fn boundaries_tell_what_has_come_since() {
    let mut parser = Parser::new(syntax(HERMES), &request(&["add"]), "");
    let mut push = |raw: &str| {
        parser.push(raw, &mut Vec::new());
        parser
            .boundary()
            .map(|(boundary, since)| (boundary, since.to_owned()))
    };
    let at = |boundary, since: &str| Some((boundary, since.to_owned()));
    assert_eq!(push("<th"), None);
    assert_eq!(push("ink>ab"), at(Boundary::ReasoningBegan, "ab"));
    assert_eq!(push("c"), None);
    assert_eq!(push("</think>\n"), at(Boundary::ReasoningEnded, "\n"));
    assert_eq!(
        push("<tool_call>\n{\"n"),
        at(Boundary::CallsBegan, "\n{\"n")
    );
    assert_eq!(push("ame\": \"add\", \"arguments\": {}}"), None);
    assert_eq!(push("\n</tool_call>"), at(Boundary::CallsEnded, ""));
    assert_eq!(push("<tool_call>{x"), at(Boundary::CallsBroken, "x"));

    let mut parser = Parser::new(syntax(LLAMA), &request(&["add"]), "");
    let mut push = |raw: &str| {
        parser.push(raw, &mut Vec::new());
        parser
            .boundary()
            .map(|(boundary, since)| (boundary, since.to_owned()))
    };
    assert_eq!(push("So: {\"name\": \"add\","), None);
    assert_eq!(
        push(" \"parameters\": {\"a"),
        at(
            Boundary::CallsBegan,
            "{\"name\": \"add\", \"parameters\": {\"a"
        )
    );
    assert_eq!(push("\": 1}}"), at(Boundary::CallsEnded, ""));
}
