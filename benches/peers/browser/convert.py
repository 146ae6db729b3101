"""Writes a GGUF of the llama or gemma3 family as a model folder that transformers.js loads with dtype q4.

The graph is the one that ONNX Runtime's own model builder makes for WebGPU (GroupQueryAttention with rope in it,
MatMulNBits, SkipSimplifiedLayerNormalization), from the GGUF's own weights: layers in 4 bits, the embedding as the file
has it, in 8 bits, shared with the head. Nothing is fetched. There is no tokenizer: the benchmark hands over token ids.

Beside it lies `prompt.json`, the tokens of a text.

Usage: convert.py FILE.gguf TEXT FOLDER
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from onnx import TensorProto, helper, numpy_helper, save

from prompt import tokens
from quantise import BLOCK, eight_bits, four_bits

MICROSOFT = "com.microsoft"

# Positions that the rope tables cover; the benchmark uses less.
POSITIONS = 4096


class Shape:
    """What the GGUF's metadata says about the model."""

    def __init__(self, reader):
        field = lambda name, default=None: reader.fields[name].contents() if name in reader.fields else default
        self.family = field("general.architecture")
        if self.family not in ("llama", "gemma3"):
            sys.exit(f"no graph for {self.family}")
        key = lambda name, default=None: field(f"{self.family}.{name}", default)
        self.gemma = self.family == "gemma3"
        self.layers = key("block_count")
        self.width = key("embedding_length")
        self.inner = key("feed_forward_length")
        self.heads = key("attention.head_count")
        self.kv_heads = key("attention.head_count_kv", self.heads)
        self.head = key("attention.key_length", self.width // self.heads)
        self.epsilon = key("attention.layer_norm_rms_epsilon")
        self.base = key("rope.freq_base", 10000.0)
        self.window = key("attention.sliding_window", 0)
        if key("rope.scaling.type", "none") != "none":
            sys.exit("no rope scaling here")

    def slides(self, layer):
        """Of Gemma 3's layers each sixth looks at everything, the others at a window."""
        return self.gemma and layer % 6 != 5


class Graph:
    """Nodes and weights, put together one by one."""

    def __init__(self, shape, reader):
        self.shape = shape
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.nodes, self.weights = [], []

    def node(self, kind, inputs, output, domain="", **attributes):
        outputs = output if isinstance(output, list) else [output]
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=f"/{outputs[0]}", domain=domain, **attributes))
        return outputs[0]

    def constant(self, name, values):
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def norm_weight(self, name):
        return self.constant(name, np.asarray(self.tensors[name].data, np.float32).reshape(-1))

    def norm(self, hidden, weight, output):
        return self.node("SimplifiedLayerNormalization", [hidden, self.norm_weight(weight)], output,
                         axis=-1, epsilon=self.shape.epsilon, stash_type=1)

    def add_norm(self, hidden, residual, weight, output):
        """Norm of the sum, and the sum."""
        total = f"{output}.sum"
        self.node("SkipSimplifiedLayerNormalization", [hidden, residual, self.norm_weight(weight)],
                  [output, "", "", total], MICROSOFT, epsilon=self.shape.epsilon)
        return output, total

    def product(self, hidden, weights, output):
        rows, columns = weights.values.shape
        inputs = [hidden, self.constant(f"{output}.weight", weights.packed()),
                  self.constant(f"{output}.scales", weights.scales)]
        if weights.zeros is not None:
            inputs.append(self.constant(f"{output}.zeros", weights.packed_zeros()))
        return self.node("MatMulNBits", inputs, output, MICROSOFT, K=columns, N=rows, bits=weights.bits,
                         block_size=BLOCK, accuracy_level=4)

    def four(self, name):
        return four_bits(self.tensors[name])


def rope_tables(graph, name, base):
    shape = graph.shape
    rates = base ** (-np.arange(0, shape.head, 2, dtype=np.float64) / shape.head)
    angles = np.outer(np.arange(POSITIONS), rates)
    return [graph.constant(f"{name}.{kind}", table.astype(np.float32))
            for kind, table in (("cos", np.cos(angles)), ("sin", np.sin(angles)))]


def embed(graph):
    """Rows of the table by token, in 8 bits; and the table as the head has it."""
    table = eight_bits(graph.tensors["token_embd.weight"])
    graph.constant("logits.weight", table.packed())
    graph.constant("logits.scales", table.scales)
    rows, columns = table.values.shape
    flat = graph.node("Reshape", ["logits.weight", graph.constant("table_shape", np.array([rows, columns]))], "table")
    hidden = graph.node("GatherBlockQuantized", [flat, "input_ids", "logits.scales"], "embedded", MICROSOFT,
                        bits=8, block_size=BLOCK, gather_axis=0, quantize_axis=1)
    if graph.shape.gemma:
        scale = graph.constant("embedding_scale", np.array(math.sqrt(graph.shape.width), np.float32))
        hidden = graph.node("Mul", [hidden, scale], "scaled")
    return hidden, table


def lengths(graph):
    """How many tokens each sequence has but one, and how many in all, from the mask."""
    one = graph.constant("one", np.array([1]))
    graph.constant("one_scalar", np.array(1))
    summed = graph.node("ReduceSum", ["attention_mask", one], "mask.sum", keepdims=0)
    less = graph.node("Sub", [summed, one], "mask.less")
    graph.node("Cast", [less], "seqlens_k", to=TensorProto.INT32)
    sizes = graph.node("Shape", ["attention_mask"], "mask.shape")
    total = graph.node("Gather", [sizes, "one_scalar"], "mask.total", axis=0)
    graph.node("Cast", [total], "total_sequence_length", to=TensorProto.INT32)


def untwisted(weights, heads, head):
    """llama.cpp turns neighbours (0, 1), (2, 3), …; the graph turns halves (0, n/2), …: rows in the order for that."""
    order = np.arange(heads * head).reshape(heads, head // 2, 2).swapaxes(1, 2).reshape(-1)
    return weights.rows(order)


def attention(graph, layer, hidden, tables):
    shape, name = graph.shape, f"blk.{layer}"
    query, key, value = (graph.four(f"{name}.attn_{kind}.weight") for kind in ("q", "k", "v"))
    if shape.gemma:
        # Norms of heads inside the attention take queries, keys and values one by one only.
        together = [graph.product(hidden, one, f"{name}.{kind}")
                    for kind, one in (("query", query), ("key", key), ("value", value))]
    else:
        query, key = untwisted(query, shape.heads, shape.head), untwisted(key, shape.kv_heads, shape.head)
        together = [graph.product(hidden, query.below([key, value]), f"{name}.qkv"), "", ""]
    past = [f"past_key_values.{layer}.{kind}" for kind in ("key", "value")]
    present = [f"present.{layer}.{kind}" for kind in ("key", "value")]
    slides = shape.slides(layer)
    inputs = [*together, *past, "seqlens_k", "total_sequence_length", *tables["local" if slides else "global"]]
    attributes = {}
    if shape.gemma:
        # Inputs between: positions, bias, sink, and scales of a quantised cache.
        inputs += ["", "", "", "", ""]
        inputs += [graph.norm_weight(f"{name}.attn_{kind}_norm.weight") for kind in ("q", "k")]
        attributes["qk_norm_epsilon"] = shape.epsilon
    graph.node("GroupQueryAttention", inputs, [f"{name}.attention", *present], MICROSOFT,
               num_heads=shape.heads, kv_num_heads=shape.kv_heads, scale=1 / math.sqrt(shape.head), do_rotary=1,
               rotary_interleaved=0, local_window_size=shape.window if slides else -1, **attributes)
    return graph.product(f"{name}.attention", graph.four(f"{name}.attn_output.weight"), f"{name}.attention_out")


def feed_forward(graph, layer, hidden):
    name = f"blk.{layer}"
    gate = graph.product(hidden, graph.four(f"{name}.ffn_gate.weight"), f"{name}.gate")
    up = graph.product(hidden, graph.four(f"{name}.ffn_up.weight"), f"{name}.up")
    if graph.shape.gemma:
        active = graph.node("FastGelu", [gate], f"{name}.active", MICROSOFT)
    else:
        sigmoid = graph.node("Sigmoid", [gate], f"{name}.sigmoid")
        active = graph.node("Mul", [gate, sigmoid], f"{name}.active")
    both = graph.node("Mul", [active, up], f"{name}.both")
    return graph.product(both, graph.four(f"{name}.ffn_down.weight"), f"{name}.down")


def body(graph):
    """All layers; the normed hidden state, and the embedding table."""
    shape = graph.shape
    residual, table = embed(graph)
    lengths(graph)
    tables = {"global": rope_tables(graph, "rope", shape.base)}
    if shape.gemma:
        tables["local"] = rope_tables(graph, "rope_local", 10000.0)
    hidden = graph.norm(residual, "blk.0.attn_norm.weight", "blk.0.in")
    for layer in range(shape.layers):
        name = f"blk.{layer}"
        out = attention(graph, layer, hidden, tables)
        if shape.gemma:
            out = graph.norm(out, f"{name}.post_attention_norm.weight", f"{name}.attention_normed")
        hidden, residual = graph.add_norm(out, residual, f"{name}.ffn_norm.weight", f"{name}.middle")
        out = feed_forward(graph, layer, hidden)
        if shape.gemma:
            out = graph.norm(out, f"{name}.post_ffw_norm.weight", f"{name}.down_normed")
        last = layer + 1 == shape.layers
        following = "output_norm.weight" if last else f"blk.{layer + 1}.attn_norm.weight"
        hidden, residual = graph.add_norm(out, residual, following, f"{name}.out")
    return hidden, table


def head(graph, hidden, table):
    """Logits of the last positions only, as many as are asked for; 0 asks for all."""
    counted = graph.node("Reshape", ["num_logits_to_keep", "one"], "kept.count")
    start = graph.node("Neg", [counted], "kept.start")
    end = graph.constant("kept.end", np.array([np.iinfo(np.int64).max]))
    kept = graph.node("Slice", [hidden, start, end, "one"], "kept")
    rows, columns = table.values.shape
    graph.node("MatMulNBits", [kept, "logits.weight", "logits.scales"], "logits", MICROSOFT, K=columns, N=rows,
               bits=8, block_size=BLOCK, accuracy_level=4)


def model(graph):
    shape = graph.shape
    hidden, table = body(graph)
    head(graph, hidden, table)
    value = helper.make_tensor_value_info
    whole, real = TensorProto.INT64, TensorProto.FLOAT
    inputs = [value("input_ids", whole, ["batch_size", "tokens"]), value("attention_mask", whole, ["batch_size", "total"]),
              value("num_logits_to_keep", whole, [])]
    outputs = [value("logits", real, ["batch_size", "kept", table.values.shape[0]])]
    for layer in range(shape.layers):
        for kind in ("key", "value"):
            dims = lambda length: ["batch_size", shape.kv_heads, length, shape.head]
            inputs.append(value(f"past_key_values.{layer}.{kind}", real, dims("past")))
            outputs.append(value(f"present.{layer}.{kind}", real, dims("total")))
    made = helper.make_graph(graph.nodes, shape.family, inputs, outputs, graph.weights)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10), table.values.shape[0]


def config(shape, vocabulary):
    """What transformers.js asks of a model. Without an end of text, an answer is as long as it is told to be."""
    kind, name = ("gemma3_text", "Gemma3ForCausalLM") if shape.gemma else ("llama", "LlamaForCausalLM")
    return {
        "model_type": kind, "architectures": [name], "hidden_size": shape.width, "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head, "rms_norm_eps": shape.epsilon, "rope_theta": shape.base, "vocab_size": vocabulary,
        "max_position_embeddings": POSITIONS, "tie_word_embeddings": True,
    }


def main():
    source, text, folder = (Path(argument) for argument in sys.argv[1:])
    reader = GGUFReader(source)
    shape = Shape(reader)
    made, vocabulary = model(Graph(shape, reader))
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    save(made, folder / "onnx/model_q4.onnx")
    (folder / "config.json").write_text(json.dumps(config(shape, vocabulary), indent=1))
    (folder / "generation_config.json").write_text("{}")
    (folder / "prompt.json").write_text(json.dumps(tokens(reader, text.read_text())))


main()
