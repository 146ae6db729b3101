"""Writes table.rs from llama.cpp's `src/unicode-data.cpp`, so that a character has the same class here and there.

    python3 generate.py .../llama.cpp/src/unicode-data.cpp > table.rs

The file lies in the crate llama-cpp-sys-2, of the version that the workspace's Cargo.toml names.
"""

import re
import sys

CLASSES = {0x02: 1, 0x04: 2, 0x10: 3, 0x20: 4, 0x40: 5}  # number, letter, mark, punctuation, symbol; else other
OTHER = 0
WHITESPACE = 6

source = open(sys.argv[1], encoding="utf-8").read()


def block(name):
    return re.search(rf"unicode_{name} = \{{(.*?)\n\}};", source, re.S).group(1)


def numbers(text):
    return [int(number, 16) for number in re.findall(r"0x[0-9A-Fa-f]+", text)]


flags = numbers(block("ranges_flags"))
starts = list(zip(flags[::2], flags[1::2]))
assert starts[0][0] == 0 and starts[-1][0] == 0x110000
white = set(numbers(block("set_whitespace")))
edges = sorted({start for start, _ in starts[:-1]} | white | {space + 1 for space in white})
by_start = dict(starts[:-1])
entries, current = [], OTHER
for edge in edges:
    if edge in by_start:
        current = CLASSES.get(by_start[edge], OTHER)
    kind = WHITESPACE if edge in white else current
    if not entries or entries[-1] & 0xF != kind:
        entries.append(edge << 4 | kind)

print("//! Made by generate.py from llama.cpp's `src/unicode-data.cpp`: not edited by hand.")
print()
print("/// First character of each range, shifted left by four, with its class in the low four bits.")
print('#[expect(clippy::unreadable_literal, reason = "generated")]')
print(f"pub(super) const RANGES: [u32; {len(entries)}] = [")
line = "   "
for entry in entries:
    text = f" 0x{entry:X},"
    if len(line) + len(text) > 100:
        print(line)
        line = "   "
    line += text
print(line)
print("];")
