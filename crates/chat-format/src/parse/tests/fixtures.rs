//! What models write, and what it means.

use super::*;

pub(super) struct Fixture {
    /// Whose writing it is.
    pub(super) source: &'static str,
    pub(super) template: &'static str,
    /// What the prompt ends with.
    pub(super) prompt: &'static str,
    pub(super) tools: &'static [&'static str],
    pub(super) raw: &'static str,
    pub(super) pieces: Vec<Piece>,
}

impl Fixture {
    pub(super) fn parser(&self) -> Parser {
        Parser::new(syntax(self.template), &request(self.tools), self.prompt)
    }
}

const SPECIAL: &[&str] = &["special_function", "special_function_with_opt"];
const WEATHER: &[&str] = &["add", "get_current_weather", "get_age"];
const SEARCH: &[&str] = &[
    "searchTool",
    "getOpenIncidentsTool",
    "complexTool",
    "parserTool",
];
const CHAT_CPP: &str = "llama.cpp, tests/test-chat.cpp";
const QWQ: &str = "llama.cpp, tests/test-chat.cpp (QwQ-32B: its template opens the thought)";
const MISTRAL_PY: &str = "vLLM, tests/tool_use/test_mistral_tool_parser.py";
const LLAMA_PY: &str =
    "vLLM, tests/entrypoints/openai/tool_parsers/test_llama3_json_tool_parser.py";
const OURS: &str = "ours";

fn fixture(
    source: &'static str,
    template: &'static str,
    tools: &'static [&'static str],
    raw: &'static str,
    pieces: Vec<Piece>,
) -> Fixture {
    Fixture {
        source,
        template,
        prompt: "",
        tools,
        raw,
        pieces,
    }
}

pub(super) fn fixtures() -> Vec<Fixture> {
    let mut all = hermes();
    all.extend(thoughts());
    all.extend(opened_thoughts());
    all.extend(mistral());
    all.extend(llama());
    all.extend(broken());
    all
}

fn hermes() -> Vec<Fixture> {
    let it = |source, tools, raw, pieces| fixture(source, HERMES, tools, raw, pieces);
    vec![
        it(
            CHAT_CPP,
            SPECIAL,
            "<tool_call>\n{\"name\": \"special_function\", \"arguments\": {\"arg1\": 1}}\n</tool_call>",
            vec![call("special_function", "{\"arg1\": 1}")],
        ),
        it(
            CHAT_CPP,
            SPECIAL,
            "Hello, world!\nWhat's up?<tool_call>\n{\"name\": \"special_function\", \"arguments\": {\"arg1\": 1}}\n</tool_call>",
            vec![
                text("Hello, world!\nWhat's up?"),
                call("special_function", "{\"arg1\": 1}"),
            ],
        ),
        it(
            "Qwen2.5's template: calls of one turn",
            WEATHER,
            "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>\n<tool_call>\n{\"name\": \"get_age\", \"arguments\": {}}\n</tool_call>",
            vec![call("add", "{\"a\": 1}"), call("get_age", "{}")],
        ),
        it(
            "NousResearch/Hermes-Function-Calling, README: arguments first",
            WEATHER,
            "<tool_call>\n{\"arguments\": {\"city\": \"Rome\"}, \"name\": \"get_current_weather\"}\n</tool_call>\n",
            vec![call("get_current_weather", "{\"city\": \"Rome\"}")],
        ),
        it(
            "OpenAI's own shape, which models imitate",
            WEATHER,
            "<tool_call>{\"id\": \"a\", \"type\": \"function\", \"function\": {\"name\": \"add\", \"arguments\": \"{\\\"a\\\": \\\"\\\\\\\"}\\\\u00e9\\\"}\"}}</tool_call>",
            vec![call("add", "{\"a\": \"\\\"}\\u00e9\"}")],
        ),
        it(
            OURS,
            WEATHER,
            "Before.\n\n<tool_call>{\"name\":\"add\",\"arguments\":{\"a\":\"</tool_call> {\\\"name\\\": \\\"x\\\"}\\n\\\\\",\"b\":[{\"c\":[]}]}}</tool_call>\n\nAfter.\n",
            vec![
                text("Before."),
                call(
                    "add",
                    "{\"a\":\"</tool_call> {\\\"name\\\": \\\"x\\\"}\\n\\\\\",\"b\":[{\"c\":[]}]}",
                ),
                text("After.\n"),
            ],
        ),
        it(
            OURS,
            WEATHER,
            "<tool_call>{\"name\": \"get_age\"}</tool_call>",
            vec![call("get_age", "{}")],
        ),
        it(
            OURS,
            WEATHER,
            "a < b, <t, <tool_cal and <<tool_call>{\"name\":\"add\",\"arguments\":{}}</tool_call>",
            vec![text("a < b, <t, <tool_cal and <"), call("add", "{}")],
        ),
        fixture(
            "microsoft/Phi-4-mini-instruct, model card",
            PHI,
            WEATHER,
            "<|tool_call|>[{\"name\": \"get_current_weather\", \"arguments\": {\"city\": \"Paris\"}}]<|/tool_call|>",
            vec![call("get_current_weather", "{\"city\": \"Paris\"}")],
        ),
    ]
}

fn hello() -> Vec<Piece> {
    vec![
        reasoning("I'm\nthinking"),
        text("Hello, world!\nWhat's up?"),
    ]
}

fn thoughts() -> Vec<Fixture> {
    vec![
        fixture(
            CHAT_CPP,
            HERMES,
            &[],
            "<think>I'm\nthinking</think>Hello, world!\nWhat's up?",
            hello(),
        ),
        fixture(
            "Qwen3's template: how a turn is written",
            HERMES,
            SPECIAL,
            "<think>\nI'm\nthinking\n</think>\n\nHello, world!\nWhat's up?",
            hello(),
        ),
        fixture(
            "Qwen3's template, without thinking",
            HERMES,
            SPECIAL,
            "<think>\n\n</think>\n\nHello.",
            vec![text("Hello.")],
        ),
        fixture(
            CHAT_CPP,
            MAGISTRAL,
            SPECIAL,
            "[THINK]I'm\nthinking[/THINK]Hello, world!\nWhat's up?",
            hello(),
        ),
        fixture(
            CHAT_CPP,
            MAGISTRAL,
            SPECIAL,
            "[THINK]I'm\nthinking[/THINK][TOOL_CALLS]special_function[ARGS]{\"arg1\":1}",
            vec![
                reasoning("I'm\nthinking"),
                call("special_function", "{\"arg1\":1}"),
            ],
        ),
        fixture(
            "ours: a tag in the middle is text",
            HERMES,
            &[],
            "Write <think>x</think> for thoughts.",
            vec![text("Write <think>x</think> for thoughts.")],
        ),
        fixture(
            "ours: what stands in a thought is thought",
            HERMES,
            SPECIAL,
            "<think>a </thin <tool_call>{\"name\":\"special_function\",\"arguments\":{}}</tool_call> b</think>c",
            vec![
                reasoning(
                    "a </thin <tool_call>{\"name\":\"special_function\",\"arguments\":{}}</tool_call> b",
                ),
                text("c"),
            ],
        ),
    ]
}

fn opened_thoughts() -> Vec<Fixture> {
    let opened = |raw, pieces| Fixture {
        prompt: "<|im_start|>assistant\n<think>\n",
        ..fixture(QWQ, HERMES, SPECIAL, raw, pieces)
    };
    vec![
        opened(
            "Let me think about this...\n</think>\nThe answer is 42.",
            vec![
                reasoning("Let me think about this..."),
                text("The answer is 42."),
            ],
        ),
        opened(
            "I should use a tool\n</think>\n<tool_call>\n{\"name\": \"special_function\", \"arguments\": {\"arg1\": 1}}\n</tool_call>",
            vec![
                reasoning("I should use a tool"),
                call("special_function", "{\"arg1\": 1}"),
            ],
        ),
        opened("Cut in the mid", vec![reasoning("Cut in the mid")]),
    ]
}

fn mistral() -> Vec<Fixture> {
    let it = |raw, pieces| fixture(MISTRAL_PY, MISTRAL, WEATHER, raw, pieces);
    let weather = "{\"city\": \"San Francisco\", \"state\": \"CA\", \"unit\": \"celsius\"}";
    vec![
        it("This is a test", vec![text("This is a test")]),
        it(
            "[TOOL_CALLS][{\"name\": \"add\", \"arguments\":{\"a\": 3.5, \"b\": 4}}]",
            vec![call("add", "{\"a\": 3.5, \"b\": 4}")],
        ),
        it(
            "[TOOL_CALLS]  [ {\"name\":\"add\" , \"arguments\" : {\"a\": 3, \"b\": 4} } ]",
            vec![call("add", "{\"a\": 3, \"b\": 4}")],
        ),
        it(
            "[TOOL_CALLS] [{\"arguments\":{\"city\": \"San Francisco\", \"state\": \"CA\", \"unit\": \"celsius\"}, \"name\": \"get_current_weather\"}]",
            vec![call("get_current_weather", weather)],
        ),
        it(
            "[TOOL_CALLS] [{\"arguments\":{\"name\": \"John Doe\"}, \"name\": \"get_age\"}]",
            vec![call("get_age", "{\"name\": \"John Doe\"}")],
        ),
        // Without the last brace, as it stands there.
        it(
            "[TOOL_CALLS][{\"name\": \"add\", \"arguments\": {\"a\": 3.5, \"b\": 4}}, {\"name\": \"get_current_weather\", \"arguments\":{\"city\": \"San Francisco\", \"state\": \"CA\", \"unit\": \"celsius\"}]",
            vec![
                call("add", "{\"a\": 3.5, \"b\": 4}"),
                call("get_current_weather", weather),
            ],
        ),
        it(
            "[TOOL_CALLS]add{\"a\": 3.5, \"b\": 4}",
            vec![call("add", "{\"a\": 3.5, \"b\": 4}")],
        ),
        fixture(
            CHAT_CPP,
            MAGISTRAL,
            SPECIAL,
            "[TOOL_CALLS]special_function[ARGS]{\"arg1\": 1}[TOOL_CALLS]special_function_with_opt[ARGS]{\"arg1\": 1, \"arg2\": 2}",
            vec![
                call("special_function", "{\"arg1\": 1}"),
                call("special_function_with_opt", "{\"arg1\": 1, \"arg2\": 2}"),
            ],
        ),
        fixture(
            "Mistral-Small-3.2's template: an id beside the name",
            MAGISTRAL,
            SPECIAL,
            "[TOOL_CALLS]special_function[CALL_ID]123456789[ARGS]{\"arg1\": 1}",
            vec![call("special_function", "{\"arg1\": 1}")],
        ),
    ]
}

fn llama() -> Vec<Fixture> {
    let it = |raw, pieces| fixture(LLAMA_PY, LLAMA, SEARCH, raw, pieces);
    vec![
        it(
            "Here is the result: {\"name\": \"getOpenIncidentsTool\", \"parameters\": {}} Would you like to know more?",
            vec![
                text("Here is the result:"),
                call("getOpenIncidentsTool", "{}"),
                text("Would you like to know more?"),
            ],
        ),
        it(
            "{\"name\": \"invalidTool\", \"parameters\": {invalid json}",
            vec![text(
                "{\"name\": \"invalidTool\", \"parameters\": {invalid json}",
            )],
        ),
        it(
            "{\"name\": \"searchTool\", \"arguments\": {\"query\": \"test\"}}",
            vec![call("searchTool", "{\"query\": \"test\"}")],
        ),
        it(
            "{\"name\": \"searchTool\", \"parameters\": {\"query\": \"test1\"}} ; {\"name\": \"getOpenIncidentsTool\", \"parameters\": {}} ; {\"name\": \"searchTool\", \"parameters\": {\"query\": \"test2\"}}",
            vec![
                call("searchTool", "{\"query\": \"test1\"}"),
                call("getOpenIncidentsTool", "{}"),
                call("searchTool", "{\"query\": \"test2\"}"),
            ],
        ),
        it(
            "{\"name\": \"complexTool\", \"parameters\": {\"level1\": {\"level2\": {\"level3\": {\"level4\": {\"value\": \"deep\"}}}}}}",
            vec![call(
                "complexTool",
                "{\"level1\": {\"level2\": {\"level3\": {\"level4\": {\"value\": \"deep\"}}}}}",
            )],
        ),
        it(
            "{\"name\": \"parserTool\", \"parameters\": {\"text\": \"He said \\\"Hello {world}\\\"\"}}",
            vec![call(
                "parserTool",
                "{\"text\": \"He said \\\"Hello {world}\\\"\"}",
            )],
        ),
        fixture(
            "sglang, test of Llama32Detector",
            LLAMA,
            WEATHER,
            "<|python_tag|>{\"name\": \"get_current_weather\", \"arguments\": {\"city\": \"Beijing\"}}",
            vec![call("get_current_weather", "{\"city\": \"Beijing\"}")],
        ),
        fixture(
            OURS,
            GENERIC,
            WEATHER,
            "[{\"name\": \"add\", \"arguments\": {\"a\": 1}},\n {\"name\": \"get_age\", \"arguments\": {}}]",
            vec![call("add", "{\"a\": 1}"), call("get_age", "{}")],
        ),
        fixture(
            "ours: JSON that is no call",
            GENERIC,
            WEATHER,
            "{\"name\": \"add\"} {\"city\": {\"name\": \"add\"}} [1, 2] [{}] {\"name\": \"Bob\", \"arguments\": {}} { }",
            vec![text(
                "{\"name\": \"add\"} {\"city\": {\"name\": \"add\"}} [1, 2] [{}] {\"name\": \"Bob\", \"arguments\": {}} { }",
            )],
        ),
    ]
}

fn broken() -> Vec<Fixture> {
    let it = |source, raw, pieces| fixture(source, PLAIN_HERMES, WEATHER, raw, pieces);
    let whole = |raw: &'static str| it("ours: no call", raw, vec![text(raw)]);
    vec![
        whole("<tool_call>\n{'name': 'add', 'arguments': {}}\n</tool_call>"),
        whole("<tool_call>add(1, 2)</tool_call> and on."),
        whole("<tool_call>{\"name\": \"subtract\", \"arguments\": {}}</tool_call>"),
        whole("<tool_call>{\"name\": 5, \"arguments\": {}}</tool_call>"),
        whole("<tool_call>{\"arguments\": [], \"name\": \"add\"}</tool_call>"),
        whole("<tool_call>\n{\"name\": \"ad"),
        whole("  <tool_"),
        it(
            "ours: a good one after a bad one",
            "<tool_call>{bad}</tool_call>\n<tool_call>{\"name\": \"add\", \"arguments\": {}}</tool_call>",
            vec![text("<tool_call>{bad}</tool_call>"), call("add", "{}")],
        ),
        it(
            "ours: broken off in its arguments",
            "<tool_call>{\"name\": \"add\", \"arguments\": {\"a\": oops}}</tool_call>",
            vec![call("add", "{\"a\": "), text("oops}}</tool_call>")],
        ),
        it(
            "ours: the end is missing",
            "<tool_call>{\"name\": \"add\", \"arguments\": {\"a\": \"b",
            vec![call("add", "{\"a\": \"b")],
        ),
        it(
            "ours: the closing marker is missing",
            "<tool_call>{\"name\": \"add\", \"arguments\": {}}\n\nDone.",
            vec![call("add", "{}"), text("Done.")],
        ),
        it(
            "ours: half a closing marker",
            "<tool_call>{\"name\": \"add\", \"arguments\": {}}\n</tool",
            vec![call("add", "{}")],
        ),
        it(
            "ours: several in one block",
            "<tool_call>{\"name\": \"add\", \"arguments\": {}}\n{\"name\": \"get_age\", \"arguments\": {}}</tool_call>",
            vec![call("add", "{}"), call("get_age", "{}")],
        ),
    ]
}

#[test]
fn what_models_write_means_what_it_should() {
    for fixture in fixtures() {
        let seen = seen(&parse_pieces(fixture.parser(), [fixture.raw]));
        assert_eq!(seen, fixture.pieces, "{}\n{}", fixture.source, fixture.raw);
    }
}
