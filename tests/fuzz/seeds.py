#!/usr/bin/env python3
"""Writes the corpora that the targets begin with: from the protocol's vectors, and by hand where those have none."""

import json
import pathlib
import sys

here = pathlib.Path(__file__).parent
vectors = json.loads((here / "../vectors/protocol-v1.json").read_text())
corpus = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else here / "corpus")


def seed(target, name, data):
    folder = corpus / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"seed-{name}").write_bytes(data if isinstance(data, bytes) else data.encode())


def text(message):
    return message if isinstance(message, str) else json.dumps(message, separators=(",", ":"))


negatives = vectors["negatives"]
streams = [stream for handshake in vectors["handshakes"] for stream in handshake["streams"]]
records = [record for stream in streams for record in stream["records"]]
records += [record for batch in vectors["batches"] for record in batch["records"]]
records += negatives["records"]
records += [{"json": negatives["good"], "binary": negatives["good_binary"]}]

hellos = [handshake["hello"] for handshake in vectors["handshakes"]] + [one["hello"] for one in negatives["hellos"]]
for at, hello in enumerate(hellos):
    for target in ["hello", "json", "rpc"]:
        seed(target, f"hello-{at}", text(hello))
for at, handshake in enumerate(vectors["handshakes"]):
    seed("reply", f"{at}", text(handshake["reply"]))
    seed("json", f"reply-{at}", text(handshake["reply"]))
for at, record in enumerate(records):
    if record.get("json"):
        for target in ["record", "json", "rpc"]:
            seed(target, f"record-{at}", text(record["json"]))
    if record.get("binary"):
        for target in ["record", "rpc"]:
            seed(target, f"binary-{at}", bytes.fromhex(record["binary"]))
for at, rejection in enumerate(vectors["rejections"]):
    seed("json", f"error-{at}", text(rejection["error"]))

# Good JSON to some parsers, and too great a number to others.
seed("json", "great-number", '{"type":"encrypted","stream":4503995762370e496}')

# RFC 9292, of known length: in one record, and cut after the first bytes.
request = b"\0\x04POST\x04http\x0bexample.com\x01/"
heads = [
    ("bare", request),
    ("empty", request + b"\0\0\0"),
    ("content", request + b"\0\x05hello\0"),
    ("fields", request + b"\x16\x06accept\x01*\x05x-one\x03two\x01a\0\x02hi\0\0\0"),
    ("long", request + b"\x40\x04\x01a\x01b\x80\0\0\x02hi"),
]
for name, head in heads:
    for cut in [0, len(head), 7]:
        seed("inner_request", f"{name}-{cut}", bytes([cut]) + head)
answers = [
    ("empty", b"\x01\x40\xc8\0\0\0"),
    ("content", b"\x01\x40\xc8\0\x05hello\0"),
    ("fields", b"\x01\x41\x94\x12\x0ccontent-type\x01a\x01b\x01c\x02hi\0"),
]
for name, head in answers:
    for cut in [0, len(head), 5]:
        seed("inner_response", f"{name}-{cut}", bytes([cut]) + head)
names = ["host", "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te", "trailer"]
names += ["expect", "content-length", "forwarded", "x-real-ip", "cookie", "Accept", "a b"]
for name in names:
    field = bytes([len(name)]) + name.encode() + b"\x01x"
    section = bytes([len(field)]) + field + b"\0\0"
    seed("inner_request", f"field-{name}", b"\0" + request + section)
    seed("inner_response", f"field-{name}", b"\0\x01\x40\xc8" + section)

key = "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC"
public = "gSEAGb8wCf6FpZzWgjOi6CSZ5XTJhQGpPNjRkiImnRs/RkI="
for label in ["PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "PUBLIC KEY", "OPENSSH PRIVATE KEY"]:
    pem = f"-----BEGIN {label}-----\n{key}\n-----END {label}-----\n"
    seed("key_file", label.split()[0] + label.split()[-2], pem)
    seed("key_file", label.split()[0] + "-crlf", "about\r\n" + pem.replace("\n", "\r\n"))
seed("key_file", "v2", f"-----BEGIN PRIVATE KEY-----\nMFECAQEwBQYDK2VwBCIEI{key[20:]}{public}\n-----END PRIVATE KEY-----\n")

node = hellos[0]["node_id"]
lines = [f"https://example.com {node}", f"wss://[::1]:8443 {node.upper()} # a comment", f"tools\t{node}", "", "# note"]
seed("known_peers", "one", lines[0])
seed("known_peers", "all", "\n".join(lines) + "\n")
seed("known_peers", "twice", f"{lines[0]}\nHTTPS://EXAMPLE.com:443/ {node}\n")

calls = ['{"jsonrpc":"2.0","id":1,"method":"m","params":{}}', '{"jsonrpc":"2.0","id":"a","result":[]}']
calls += ['{"jsonrpc":"2.0","method":"m"}', f"[{calls[0]},{calls[1]}]", "[]"]
for at, call in enumerate(calls):
    seed("rpc", f"inside-{at}", b"\0" + call.encode())
    seed("rpc", f"outside-{at}", call)
    seed("json", f"rpc-{at}", call)

# How and in what pieces; then two bytes for each part: a whole record, some of it, raw bytes, a changed one.
lengths = [b"\xff\xff\xff\xff", b"\0\x0f\xff\xff", b"\0\0\0\0", b"\n\n", b"{}\n"]
for how in range(0, 32, 3):
    count = how >> 2 & 7
    whole = bytes([how, 255]) + b"\0\0" * (count + 1)
    seed("framed_body", f"whole-{how}", whole)
    seed("framed_body", f"slowly-{how}", bytes([how, 1]) + whole[2:])
    seed("framed_body", f"changed-{how}", whole + b"\x23\x10")
    seed("framed_body", f"cut-{how}", whole[:-2] + b"\x01\x50")
    for at, length in enumerate(lengths):
        seed("framed_body", f"then-{how}-{at}", whole + bytes([2, len(length)]) + length)
        seed("pipe", f"then-{how % 16}-{at}", bytes([how % 16, 255]) + length + b"\x01\0" * 20)
for at, frame in enumerate([text(hellos[0]) + "\n", text(records[0]["json"]) + "\n", "[]\n"]):
    seed("pipe", f"line-{at}", b"\x00\x40" + frame.encode())
    seed("pipe", f"length-{at}", b"\x00\x40" + len(frame).to_bytes(4) + frame.encode())

# The encoding; then two bytes for each event: send, close, carry, deliver, reflect, repeat, drop, swap, flip, forge as
# text and as binary, cut, wait; read.
send, close, carry, deliver, reflect, repeat, drop, swap, flip, forge, _, cut, wait, read = range(14)
far = 0x80
talks = {
    "both": [send, deliver, far | read, far | send, far | deliver, read],
    "ends": [send, close, deliver, deliver, far | read, far | read, far | close, far | deliver, read],
    "again": [send, deliver, far | read, repeat, far | read],
    "swapped": [send, send, carry, swap, deliver, deliver, far | read, far | read],
    "lost": [send, send, carry, drop, deliver, far | read],
    "changed": [send, carry, flip, deliver, far | read, send],
    "back": [send, reflect, read, send],
    "forged": [forge, far | read, forge | far, read],
    "cut": [send, deliver, cut, cut | far, far | read, far | read, read],
    "late": [send, wait, deliver, far | read, wait, send, deliver, far | read],
}
for name, events in talks.items():
    for json_too in [0, 1]:
        talk = bytes(byte for event in events for byte in [event, 0 if event & 0x7F == repeat else 20])
        seed("duplex", f"{name}-{json_too}", bytes([json_too]) + talk)

# What is read by `arbitrary` has no form of its own: noise of several lengths, the same every time.
noise = b"".join(bytes.fromhex(record["binary"]) for record in records if record.get("binary"))
for target in ["hello", "reply", "merkle"]:
    mark = b"" if target == "merkle" else b"\0"
    for length in [16, 64, 256, 1024, 4000]:
        seed(target, f"noise-{length}", mark + noise[length * 3 : length * 4])
