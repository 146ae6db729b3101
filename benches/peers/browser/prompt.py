"""Tokens of a plain English text by the vocabulary in a GGUF. Enough for a benchmark's prompt, no tokenizer for anything
else: one engine is given the text and another the ids, and both have to see the same."""

import re

# How GPT-2's family cuts text into words, for letters of English; SmolLM cuts numbers into digits.
WORDS = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")


def merged(parts, rank):
    """Joins neighbours, the best pair first, until no pair is known."""
    while True:
        known = [(rank(one, other), at) for at, (one, other) in enumerate(zip(parts, parts[1:]))]
        known = [pair for pair in known if pair[0] is not None]
        if not known:
            return parts
        at = min(known)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def tokens(reader, text):
    """`ids` of the text, and `texts`, what each of them stands for."""
    field = lambda name: reader.fields[f"tokenizer.ggml.{name}"].contents()
    vocabulary = {token: index for index, token in enumerate(field("tokens"))}
    if field("model") == "gpt2":
        ranks = {tuple(merge.split(" ")): index for index, merge in enumerate(field("merges"))}
        spell = lambda part: part.replace(" ", "\u0120").replace("\n", "\u010a")
        words = [list(spell(word)) for word in WORDS.findall(text)]
        pieces = [piece for word in words for piece in merged(word, lambda one, other: ranks.get((one, other)))]
        texts = [piece.replace("\u0120", " ").replace("\u010a", "\n") for piece in pieces]
        return {"ids": [vocabulary[piece] for piece in pieces], "texts": texts}
    scores = field("scores")

    def rank(one, other):
        index = vocabulary.get(one + other)
        return None if index is None else -scores[index]

    # One long word is slow to merge; no token of plain English has its space anywhere but in front.
    words = re.findall(r"\n+|\u2581*[^\u2581\n]+", text.replace(" ", "\u2581"))
    pieces = [piece for word in words for piece in merged(list(word), rank)]
    ids = [field("bos_token_id")] + [vocabulary[piece] for piece in pieces]
    return {"ids": ids, "texts": [""] + [piece.replace("\u2581", " ") for piece in pieces]}
