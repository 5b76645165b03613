"""Every suite over every way; sealed has to be as direct is. See README.md."""

import difflib
import os
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import children
import client
import conformance
import raw
import rmcp
import stack

SUITES = {
    "everything raw": (stack.everything, raw.use, raw.everything),
    "python raw 2025-11-25": (stack.python, raw.use, raw.legacy),
    "python raw 2026-07-28": (stack.python, raw.use, raw.modern),
    "everything client": (stack.everything, client.use, "everything", "auto"),
    "python client 2025-11-25": (stack.python, client.use, "python", "legacy"),
    "python client 2026-07-28": (stack.python, client.use, "python", "auto"),
    "everything rmcp": (stack.tapped(stack.everything), rmcp.stock, "everything", "2025-11-25"),
    "python rmcp 2025-11-25": (stack.tapped(stack.python), rmcp.stock, "python", "2025-11-25"),
    "python rmcp 2026-07-28": (stack.tapped(stack.python), rmcp.stock, "python", "2026-07-28"),
    "everything layer": (stack.tapped(stack.everything), rmcp.layer, "everything", "2025-11-25"),
    "python layer 2025-11-25": (stack.tapped(stack.python), rmcp.layer, "python", "2025-11-25"),
    "python layer 2026-07-28": (stack.tapped(stack.python), rmcp.layer, "python", "2026-07-28"),
    "everything connect rmcp": (stack.tapped(stack.everything), rmcp.program, "everything", "2025-11-25"),
    "python connect rmcp 2025-11-25": (stack.tapped(stack.python), rmcp.program, "python", "2025-11-25"),
    "python connect rmcp 2026-07-28": (stack.tapped(stack.python), rmcp.program, "python", "2026-07-28"),
    "everything connect client": (stack.everything, client.program, "everything", "auto"),
    "python connect client 2025-11-25": (stack.python, client.program, "python", "legacy"),
    "python connect client 2026-07-28": (stack.python, client.program, "python", "auto"),
    "everything stdio rmcp": (stack.everything_stdio, rmcp.program, "everything", "2025-11-25"),
    "filesystem stdio rmcp": (stack.filesystem, rmcp.program, "filesystem", "2025-11-25"),
    "memory stdio rmcp": (stack.memory, rmcp.program, "memory", "2025-11-25"),
    "everything stdio client": (stack.everything_stdio, client.program, "everything", "auto"),
    "filesystem stdio client": (stack.filesystem, client.program, "filesystem", "auto"),
    "memory stdio client": (stack.memory, client.program, "memory", "auto"),
    "everything stdio children": (stack.everything_stdio, children.use),
    "everything conformance": (stack.everything, conformance.use, False),
    "python conformance": (stack.python, conformance.use, True),
}


def ways():
    yield "direct", stack.direct
    if tool := os.environ.get("TOWER_SEAL"):
        tool = os.path.abspath(tool)
        if not os.access(tool, os.X_OK):
            sys.exit(f"TOWER_SEAL names {tool}, which is no program; make it with: cargo build --features cli")
        yield "sealed", stack.Sealed(tool)
        yield "sealed json", stack.Sealed(tool, "--encoding", "json", "--signatures", "handshake")
        yield "sealed nginx", stack.Sealed(tool, nginx=True)


def logs(way, suite):
    return stack.TARGET / "logs" / f"{way} {suite}".replace(" ", "-")


def last_words(way, suite):
    """What the processes said, in short."""
    said = {log.stem: log.read_text().strip()[-500:] for log in sorted(logs(way, suite).glob("*.log"))}
    return [f"{name}: {text}".replace("\n", "\n      ") for name, text in said.items()]


def visit(way, suite):
    """Runs one suite over one way, with processes of its own: what came back by step, what else held, seconds."""
    start = time.monotonic()
    try:
        return *meet(way, suite), time.monotonic() - start
    except Exception as error:  # whatever it is, the other suites go on
        return {}, {reason(error): False}, time.monotonic() - start


def meet(way, suite):
    server, use, *arguments = SUITES[suite]
    folder = logs(way, suite)
    folder.mkdir(parents=True)
    with stack.Processes(folder) as processes:
        found = dict(ways())[way](processes, server(processes))
        steps, checks = use(found, *arguments)
        if found.serve:
            # One whose client has gone has 5 s to end by itself, and then SIGTERM comes.
            stack.eventually("no child is left", lambda: not stack.children(found.serve))
        steps |= stack.written(folder)
        if found.tap:
            read = found.tap.read()
            checks["nothing can be read in between"] = read and not any(word in read for word in raw.SECRET)
    if found.tap:
        ours = {processes.ended[name] for name in ("serve", "proxy") if name in processes.ended}
        checks["serve and proxy end as they should"] = ours == {0}
    here = folder.as_uri(), str(folder)  # which is another for each way
    return {step: answer.replace(here[0], "file:///X").replace(here[1], "/X") for step, answer in steps.items()}, checks


def judge(way, expected, steps, checks):
    """What is wrong, or else None, for each thing that was looked at."""
    for check, held in checks.items():
        yield None if held else check
    for step, wanted in expected.items():
        if step not in steps:
            yield f"{step}: not there"
        elif steps[step] != wanted:
            texts = wanted.splitlines(), steps[step].splitlines()
            lines = difflib.unified_diff(*texts, "direct", way, n=0, lineterm="")
            yield "\n      ".join([step, *(line[:300] for line in list(lines)[:12])])
        else:
            yield None
    for step in steps.keys() - expected.keys():
        yield f"{step}: not there direct"


def reason(error):
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:1500]


def main(wanted):
    passed = failed = 0
    seen = {suite: {} for suite in SUITES if all(word in suite for word in wanted)}
    if not seen:
        sys.exit(f"no suite has the words {' '.join(wanted)}; there are: {', '.join(SUITES)}")
    shutil.rmtree(stack.TARGET / "logs", ignore_errors=True)
    # Through nginx there is no layer: the driver is built without TLS.
    pairs = [(way, suite) for way, _ in ways() for suite in seen if not (way == "sealed nginx" and "layer" in suite)]
    # Most of the time they wait for each other.
    pool = ThreadPoolExecutor(2 * min(os.cpu_count() or 1, 4))
    try:
        for (way, suite), (steps, checks, took) in zip(pairs, pool.map(visit, *zip(*pairs))):
            seen[suite][way] = steps
            verdicts = list(judge(way, seen[suite]["direct"], steps, checks))
            wrong = [verdict for verdict in verdicts if verdict]
            right = len(verdicts) - len(wrong)
            passed, failed = passed + right, failed + len(wrong)
            print(f"{'FAIL' if wrong else 'ok':5} {way:13} {suite:31} {right:3} of {len(verdicts):3} {took:5.1f} s")
            for line in wrong[:12] + (last_words(way, suite) if wrong else []):
                print(f"    - {line}")
            sys.stdout.flush()
    finally:
        pool.shutdown(cancel_futures=True)  # those that run end what they started
    for suite, found in seen.items():
        if "conformance" in suite:
            print(f"\n{suite}", *conformance.table(found), sep="\n")
    if "TOWER_SEAL" not in os.environ:
        print("\nTOWER_SEAL does not name the tool: there was only direct")
    print(f"\n{passed} passed, {failed} failed")
    return failed > 0 or not passed


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    sys.exit(main(sys.argv[1:]))
