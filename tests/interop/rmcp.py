"""rmcp's client, by the binary `driver.rs`: stock, over rmcp's own reqwest; or over SealLayer, without `proxy`."""

import os
import pathlib
import subprocess

from stack import BOUND, HERE, Failure, Skipped

BUILD = "cargo build --features mcp,reqwest --example interop_driver"


def driver():
    named = os.environ.get("INTEROP_DRIVER")
    path = pathlib.Path(named or HERE.parents[1] / "target" / "debug" / "examples" / "interop_driver").resolve()
    if path.is_file():
        return path
    raise (Failure if named else Skipped)(f"there is no {path}: {BUILD}")


def stock(way, server, era):
    return visit(way, way.url, server, era)


def layer(way, server, era):
    """Direct, there is nothing to seal to: so what it is compared with is stock rmcp."""
    url, seal = way.layer or (way.url, [])
    return visit(way, url, server, era, *seal)


def visit(way, url, *arguments):
    argv = [driver(), f"{url}/mcp", *arguments]
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", timeout=2 * BOUND)
    # Lines, so that a difference can be seen.
    lines = (line.split("\t", 1) for line in done.stdout.split("\n") if line)
    steps = {step: text.replace(',"', ',\n"') for step, text in lines}
    answers = way.upstream.answers()
    steps["what the server was asked, and answered"] = "\n".join(answers)
    checks = {f"the driver came to its end: {done.stderr.strip()[-500:]}": done.returncode == 0}
    if "2025-11-25" in arguments:
        checks["there were a GET stream and a DELETE"] = {"GET 200", "DELETE 200"} <= set(answers)
    return steps, checks
