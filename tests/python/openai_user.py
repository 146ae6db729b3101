"""A user of the official `openai` package, unmodified, who asks what standard input says and tells what comes as it comes.

One request a line on standard input: the arguments of `chat.completions.create`. One event a line on standard output:
{"text": ..., "id": ...}, then {"finish_reason": ..., "usage": ..., "id": ...}, or {"error": ...}.
HELIOGRAPH_BASE_URL and HELIOGRAPH_API_KEY say where.
"""

import json
import os
import sys

import openai

client = openai.OpenAI(
    base_url=os.environ["HELIOGRAPH_BASE_URL"] + "/v1",
    api_key=os.environ["HELIOGRAPH_API_KEY"],
    max_retries=0,
    timeout=120,
)


def tell(**event):
    print(json.dumps(event), flush=True)


def ask(request):
    reason, usage, job = None, None, None
    stream = client.chat.completions.create(
        stream=True, stream_options={"include_usage": True}, **request
    )
    for chunk in stream:
        job = chunk.id
        usage = chunk.usage or usage
        for choice in chunk.choices:
            if reason is not None:
                return tell(error="a choice after its finish reason", id=job)
            if choice.delta.content:
                tell(text=choice.delta.content, id=job)
            reason = choice.finish_reason
    tell(finish_reason=reason, usage=usage and usage.model_dump(), id=job)


for line in sys.stdin:
    try:
        ask(json.loads(line))
    except Exception as error:
        tell(error=repr(error))
