"""Makes expected.json: what all-MiniLM-L6-v2 makes of a few texts, computed with numpy from the published weights.

Needs numpy and tokenizers: `pip install numpy tokenizers`. Run with the folder that holds model.safetensors and
tokenizer.json: `python expected.py FOLDER > expected.json`. It knows nothing of llama.cpp.
"""

import json
import sys

import numpy as np
from tokenizers import Tokenizer

TEXTS = [
    "The cat sits on the mat.",
    "A feline is resting on a rug.",
    "Stock markets fell sharply on Tuesday!",
    "Crème brûlée, naïve café; [CLS] is text here: x=42.",
    "word " * 200,
]
HEADS = 12


def load(path):
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        data = file.read()
    return {
        name: np.frombuffer(data[slice(*entry["data_offsets"])], "<f4")
        .reshape(entry["shape"])
        .astype(np.float64)
        for name, entry in header.items()
        if name != "__metadata__" and entry["dtype"] == "F32"
    }


def norm(x, w, name):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12)
    return x * w[name + ".weight"] + w[name + ".bias"]


def linear(x, w, name):
    return x @ w[name + ".weight"].T + w[name + ".bias"]


def erf(x):
    # numpy has none: the power series, which has converged where it is not 1 already.
    term, total = x.copy(), x.copy()
    for n in range(1, 120):
        term = -term * x * x / n
        total = total + term / (2 * n + 1)
    return np.where(np.abs(x) > 4, np.sign(x), total * 2 / np.sqrt(np.pi))


def gelu(x):
    return x * 0.5 * (1 + erf(x / np.sqrt(2)))


def embed(w, ids):
    x = w["embeddings.word_embeddings.weight"][ids]
    x = x + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = x + w["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, w, "embeddings.LayerNorm")
    layer = 0
    while f"encoder.layer.{layer}.output.dense.weight" in w:
        name = f"encoder.layer.{layer}."
        q, k, v = (
            linear(x, w, name + "attention.self." + part).reshape(len(ids), HEADS, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ v
        mixed = mixed.swapaxes(0, 1).reshape(len(ids), -1)
        x = norm(x + linear(mixed, w, name + "attention.output.dense"), w, name + "attention.output.LayerNorm")
        hidden = gelu(linear(x, w, name + "intermediate.dense"))
        x = norm(x + linear(hidden, w, name + "output.dense"), w, name + "output.LayerNorm")
        layer += 1
    mean = x.mean(0)
    return mean / np.sqrt((mean * mean).sum())


def main():
    folder = sys.argv[1]
    weights = load(folder + "/model.safetensors")
    tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    lines = []
    for text in TEXTS:
        ids = [101]
        # What spells a control token is text: the tokenizer must not see it whole.
        for part in text.replace("[CLS]", "\n[\ncls\n]\n").split("\n"):
            ids += tokenizer.encode(part, add_special_tokens=False).ids
        ids += [102]
        vector = embed(weights, ids)
        numbers = [round(float(value), 6) for value in vector]
        lines.append(json.dumps({"text": text, "tokens": len(ids), "vector": numbers}, ensure_ascii=False))
    print("[\n" + ",\n".join(lines) + "\n]")


main()
