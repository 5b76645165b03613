"""rmcp's client, by the binary `driver.rs`: stock, over rmcp's own reqwest; or over SealLayer, without `proxy`."""

import os
import pathlib
import subprocess

from stack import BOUND, HERE, Failure

BUILD = "cargo build --features mcp,reqwest --example interop_driver"


def driver():
    built = HERE.parents[1] / "target" / "debug" / "examples" / "interop_driver"
    path = pathlib.Path(os.environ.get("INTEROP_DRIVER", built)).resolve()
    if not path.is_file():
        raise Failure(f"there is no {path}; make it with: {BUILD}")
    return path


def stock(way, server, era):
    return visit(way, server, era, f"{way.url}/mcp")


def program(way, server, era):
    """Over stdin and stdout, where the way has a program for that."""
    return visit(way, server, era, "--", *way.program.argv) if way.program else stock(way, server, era)


def layer(way, server, era):
    """Direct, there is nothing to seal to: so what it is compared with is stock rmcp."""
    url, seal = way.layer or (way.url, [])
    return visit(way, server, era, f"{url}/mcp", *seal)


def visit(way, server, era, *far):
    # Its folder is what the driver shows servers as its root.
    root, env = (way.program.root, way.program.env) if way.program else (way.folder, {})
    # The driver has a time limit of its own, and then says where it was.
    done = subprocess.run(
        [driver(), server, era, *far],
        env=os.environ | env,
        cwd=root,
        capture_output=True,
        encoding="utf-8",
        timeout=2 * BOUND,
    )
    (way.folder / "driver.log").write_text(done.stderr)
    steps = {}
    for line in done.stdout.removesuffix("\n").split("\n"):
        step, _, answer = line.partition("\t")
        if step in steps:
            raise Failure(f"the driver has the step {step!r} twice")
        steps[step] = answer.replace(',"', ',\n"')  # lines, so that a difference can be seen
    checks = {f"the driver came to its end: {done.stderr.strip()[-500:]}": done.returncode == 0}
    if way.upstream:
        asked = way.upstream.answers()
        steps["what the server was asked, and answered"] = "\n".join(asked)
        if era == "2025-11-25":
            checks[f"there were a GET stream and a DELETE: {asked}"] = {"GET 200", "DELETE 200"} <= set(asked)
        else:
            checks[f"there was nothing but POST: {asked}"] = asked == ["POST 200"]
    return steps, checks
