"""The official `openai` package, unmodified, against a running relay. Each case is a function; its name says what holds.

HELIOGRAPH_BASE_URL, HELIOGRAPH_API_KEY and HELIOGRAPH_MODEL say where. Exit status 1 if a case fails.
"""

import json
import os
import sys
import traceback
import urllib.error
import urllib.request

import openai

BASE = os.environ["HELIOGRAPH_BASE_URL"]
KEY = os.environ["HELIOGRAPH_API_KEY"]
MODEL = os.environ["HELIOGRAPH_MODEL"]
COLOURS = [{"role": "user", "content": "Name three primary colours."}]
# Biases against the tokens that end an answer: with them it has exactly max_tokens tokens.
ENDLESS = {"0": -100, "2": -100}

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 12},
                "unit": {"enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}

client = openai.OpenAI(base_url=BASE + "/v1", api_key=KEY, max_retries=0, timeout=120)


def ask(**options):
    options = {"model": MODEL, "messages": COLOURS, "temperature": 0, **options}
    return client.chat.completions.create(**options)


def refusal(kind, **options):
    """The error of a request that must be refused."""
    try:
        ask(**options)
    except kind as error:
        return error
    raise AssertionError(f"not refused: {options}")


def text_of(stream):
    """The text, the last finish reason and the usage of a stream, and how many pieces it had."""
    text, reason, usage, pieces = "", None, None, 0
    for chunk in stream:
        assert chunk.object == "chat.completion.chunk"
        usage = chunk.usage or usage
        for choice in chunk.choices:
            assert reason is None, "nothing follows the finish reason"
            if choice.delta.content:
                text += choice.delta.content
                pieces += 1
            reason = choice.finish_reason
    return text, reason, usage, pieces


def a_whole_answer_has_text_reason_and_usage():
    answer = ask(max_tokens=40)
    [choice] = answer.choices
    assert answer.object == "chat.completion" and answer.id and answer.created > 1_700_000_000
    assert answer.model == MODEL
    assert choice.message.role == "assistant" and choice.message.content.strip()
    assert choice.finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage.prompt_tokens > 5 and 1 <= usage.completion_tokens <= 40
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def a_streamed_answer_is_the_whole_one_in_pieces():
    whole = ask(max_tokens=40)
    text, reason, usage, pieces = text_of(
        ask(max_tokens=40, stream=True, stream_options={"include_usage": True})
    )
    assert text == whole.choices[0].message.content
    assert reason == whole.choices[0].finish_reason
    assert pieces >= 5
    assert usage.model_dump() == whole.usage.model_dump()


def checked(call):
    """A call's arguments, which have to fit the schema of its tool."""
    assert call.type == "function" and len(call.id) == 9 and call.id.isalnum(), call
    arguments = json.loads(call.function.arguments)
    if call.function.name == "clock":
        assert arguments == {}, arguments
    else:
        assert call.function.name == "get_weather", call
        assert set(arguments) == {"city", "unit"}, arguments
        assert isinstance(arguments["city"], str) and len(arguments["city"]) <= 12
        assert arguments["unit"] in ("celsius", "fahrenheit")
    return call.id


def calls_of(stream):
    """The calls of a stream, put together from their pieces, and its finish reason."""
    calls, reason, pieces = [], None, 0
    for chunk in stream:
        for choice in chunk.choices:
            for delta in choice.delta.tool_calls or []:
                if delta.index == len(calls):
                    calls.append(delta)
                    delta.function.arguments = delta.function.arguments or ""
                else:
                    assert delta.index == len(calls) - 1 and not delta.id, delta
                    calls[-1].function.arguments += delta.function.arguments
                pieces += 1
            reason = choice.finish_reason or reason
    return calls, reason, pieces


def weather(**options):
    question = [{"role": "user", "content": "What is the weather in Paris?"}]
    return ask(**{"messages": question, "tools": [WEATHER, CLOCK], "max_tokens": 150, **options})


def a_required_call_fits_its_schema_whole_and_streamed():
    for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
        [whole] = weather(tool_choice=choice).choices
        assert whole.finish_reason == "tool_calls", whole
        assert not whole.message.content, whole
        ids = [checked(call) for call in whole.message.tool_calls]
        if choice != "required":
            assert [call.function.name for call in whole.message.tool_calls] == ["get_weather"]
        calls, reason, pieces = calls_of(weather(tool_choice=choice, stream=True))
        assert reason == "tool_calls"
        assert len([checked(call) for call in calls]) >= 1
        assert len(set(ids)) == len(ids)
        if calls[0].function.name == "get_weather":
            assert pieces >= 4, "arguments come as they are written"


def parallel_calls_have_ids_of_their_own():
    # It may not end its turn, so it calls again and again, until no more calls may be made.
    options = {"tools": [CLOCK], "tool_choice": "required", "logit_bias": ENDLESS, "max_tokens": 900}
    for stream in (False, True):
        answer = weather(stream=stream, **options)
        if stream:
            calls, reason, _ = calls_of(answer)
        else:
            [choice] = answer.choices
            calls, reason = choice.message.tool_calls, choice.finish_reason
        assert reason == "tool_calls" and len(calls) > 1, calls
        assert len({checked(call) for call in calls}) == len(calls)
    [choice] = weather(parallel_tool_calls=False, **options).choices
    assert len(choice.message.tool_calls) == 1 and choice.finish_reason == "tool_calls"


def what_a_tool_said_is_answered():
    [choice] = weather(tool_choice="required", parallel_tool_calls=False).choices
    [call] = choice.message.tool_calls
    messages = [
        {"role": "user", "content": "What is the weather in Paris?"},
        choice.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "It rains."},
    ]
    [answer] = weather(messages=messages, tool_choice="none", max_tokens=30).choices
    assert answer.message.content and not answer.message.tool_calls
    assert answer.finish_reason in ("stop", "length")


def usage_is_streamed_only_when_asked_for():
    _, reason, usage, _ = text_of(ask(max_tokens=8, stream=True))
    assert reason and usage is None


def stop_ends_the_answer_before_the_string():
    plain = ask(max_tokens=40).choices[0].message.content
    # A piece from the middle that spans several tokens.
    cut = plain[len(plain) // 2 : len(plain) // 2 + 6]
    before = plain[: plain.index(cut)]
    for stop in (cut, ["no such text", cut]):
        answer = ask(max_tokens=40, stop=stop)
        assert answer.choices[0].finish_reason == "stop", answer
        assert answer.choices[0].message.content == before, answer
    text, reason, _, _ = text_of(ask(max_tokens=40, stop=cut, stream=True))
    assert (text, reason) == (before, "stop")


def max_tokens_ends_with_length():
    for name in ("max_tokens", "max_completion_tokens"):
        answer = ask(**{name: 7, "logit_bias": ENDLESS})
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage.completion_tokens == 7


def the_same_seed_gives_the_same_text():
    def drawn(seed):
        answer = ask(temperature=1.3, seed=seed, max_tokens=40, logit_bias=ENDLESS)
        return answer.choices[0].message.content

    first = drawn(42)
    assert drawn(42) == first
    assert any(drawn(seed) != first for seed in (1, 2, 3))


def a_json_schema_binds_the_answer():
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "kind": {"enum": ["warm", "cold"]},
            "strength": {"type": "integer"},
        },
        "required": ["name", "kind", "strength"],
        "additionalProperties": False,
    }
    described = {"name": "colour", "schema": schema, "strict": True}
    for stream in (False, True):
        answer = ask(
            messages=[{"role": "user", "content": "Describe the colour red as JSON."}],
            response_format={"type": "json_schema", "json_schema": described},
            max_tokens=200,
            stream=stream,
        )
        if stream:
            text, reason, _, _ = text_of(answer)
        else:
            text, reason = answer.choices[0].message.content, answer.choices[0].finish_reason
        assert reason == "stop", text
        value = json.loads(text)
        assert set(value) == {"name", "kind", "strength"}, value
        assert isinstance(value["name"], str) and isinstance(value["strength"], int)
        assert value["kind"] in ("warm", "cold")


def json_object_gives_an_object():
    answer = ask(
        messages=[{"role": "user", "content": 'Answer with {"ok": true} as JSON.'}],
        response_format={"type": "json_object"},
        max_tokens=300,
    )
    choice = answer.choices[0]
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content), dict)
    else:
        # Cut at the limit it is a beginning of an object, and says so.
        assert choice.finish_reason == "length" and choice.message.content.lstrip().startswith("{")


def logprobs_are_told_for_each_token():
    answer = ask(max_tokens=5, logprobs=True, top_logprobs=3, logit_bias=ENDLESS)
    tokens = answer.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == answer.choices[0].message.content
    assert len(tokens) == 5
    for token in tokens:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
        # The likeliest is what temperature 0 takes.
        assert token.top_logprobs[0].token == token.token
        assert bytes(token.bytes).decode() == token.token


def sampling_options_are_taken():
    answer = ask(
        temperature=0.8,
        top_p=0.9,
        presence_penalty=0.5,
        frequency_penalty=0.5,
        seed=-3,
        user="somebody",
        max_tokens=8,
        extra_body={"top_k": 40, "min_p": 0.05},
    )
    assert answer.choices[0].message.content
    biased = ask(max_tokens=6, logit_bias={"28": 100})
    assert biased.usage.completion_tokens == 6
    assert len(set(biased.choices[0].message.content)) == 1, biased


def conversations_with_parts_and_roles_are_taken():
    answer = ask(
        messages=[
            {"role": "developer", "content": "You answer briefly."},
            {"role": "user", "content": [{"type": "text", "text": "Say hello."}]},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "Again."},
        ],
        max_tokens=8,
    )
    assert answer.choices[0].message.content


def a_wrong_key_is_401():
    wrong = openai.OpenAI(base_url=BASE + "/v1", api_key="hg-wrong", max_retries=0)
    for call in (
        lambda: wrong.chat.completions.create(model=MODEL, messages=COLOURS),
        wrong.models.list,
    ):
        try:
            call()
        except openai.AuthenticationError as error:
            assert error.status_code == 401 and error.code == "invalid_api_key", error.body
        else:
            raise AssertionError("let in")


def an_unknown_model_is_404():
    error = refusal(openai.NotFoundError, model="gpt-unknown")
    assert error.code == "model_not_found" and error.message
    error = refusal(openai.NotFoundError, model="gpt-unknown", stream=True)
    assert error.param == "model"
    try:
        client.models.retrieve("gpt-unknown")
    except openai.NotFoundError:
        return
    raise AssertionError("found")


def a_context_too_long_is_400_and_names_both_lengths():
    context = client.models.retrieve(MODEL).model_dump()["context"]
    long = [{"role": "user", "content": "word " * (context + 1_000)}]
    for stream in (False, True):
        error = refusal(openai.BadRequestError, messages=long, stream=stream)
        assert error.code == "context_length_exceeded", error.body
        numbers = [int(n) for n in "".join(c if c.isdigit() else " " for c in error.message).split()]
        assert context in numbers and any(n > context for n in numbers), error.message
    # So is an answer that is longer than any context.
    error = refusal(openai.BadRequestError, max_tokens=context + 1)
    assert error.code == "context_length_exceeded", error.body


def an_oversized_body_is_413():
    error = refusal(openai.APIStatusError, messages=[{"role": "user", "content": "x" * (5 << 20)}])
    assert error.status_code == 413, error


def malformed_json_is_400():
    for body in (b"{", b"", b"nonsense", b'{"model": ', b"\xff\xfe", b"[]", b'"text"', b"[" * 5_000):
        request = urllib.request.Request(
            BASE + "/v1/chat/completions",
            data=body,
            headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
        )
        try:
            answer = urllib.request.urlopen(request, timeout=120)
        except urllib.error.HTTPError as refused:
            assert refused.code == 400, (body[:20], refused.code)
            error = json.load(refused)["error"]
            assert error["type"] == "invalid_request_error" and error["message"], error
        else:
            raise AssertionError(f"taken: {body[:20]} {answer.read()}")


def what_is_not_done_is_refused_by_name():
    for name, value in (
        ("n", 2),
        ("tools", [{"type": "custom", "custom": {"name": "f"}}]),
        ("reasoning_effort", "fierce"),
        ("temperature", 3),
        ("top_p", -1),
        ("max_tokens", 0),
        ("response_format", {"type": "grammar"}),
    ):
        error = refusal(openai.BadRequestError, **{name: value})
        assert name in error.param and name in error.message, error.body
    error = refusal(openai.BadRequestError, extra_body={"frobnicate": 1})
    assert "frobnicate" in error.message
    error = refusal(openai.BadRequestError, messages=[])
    assert error.param == "messages"


def models_say_what_there_is():
    models = {model.id: model.model_dump() for model in client.models.list()}
    model = models[MODEL]
    assert model["object"] == "model" and model["owned_by"]
    assert model["tier"] == "demo" and model["class"] == "rig"
    assert model["available"] == 1 and model["slots_free"] >= 1
    assert model["context"] > 1_000
    assert model["price"]["prompt_per_mtok"] > 0
    assert "json_schema" in model["capabilities"]
    assert models["atlas-30b"]["available"] == 0
    assert client.models.retrieve(MODEL).id == MODEL


def main():
    cases = [
        value
        for value in list(globals().values())
        if getattr(value, "__module__", None) == "__main__"
        and callable(value)
        and value not in (ask, refusal, text_of, checked, calls_of, weather, main)
    ]
    failed = 0
    for case in cases:
        try:
            case()
        except Exception:
            failed += 1
            print(f"FAILED {case.__name__}", file=sys.stderr)
            traceback.print_exc()
        else:
            print(f"ok {case.__name__}")
    print(f"{len(cases) - failed} of {len(cases)} hold with openai {openai.__version__}")
    return 1 if failed or len(cases) < 15 else 0


if __name__ == "__main__":
    sys.exit(main())
