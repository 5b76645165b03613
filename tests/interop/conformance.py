"""The official conformance suite: all server scenarios, the pending ones too, and a verdict for each check."""

import json
import pathlib
import subprocess
import tempfile

from stack import NODE, TARGET, Failure


def use(way, made_for_it):
    """The verdicts by scenario. A server that is made for the suite has to pass all of it."""
    with tempfile.TemporaryDirectory() as folder:
        suite = TARGET / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
        argv = [NODE, suite, "server", "--suite", "all", "--url", f"{way.url}/mcp", "--output-dir", folder]
        output = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=300).stdout
        verdicts = {}
        for line in output.splitlines():
            if line.startswith("=== Running scenario: "):
                verdicts[line.split()[3]] = "no verdict"
        for scenario in verdicts:
            for checks in pathlib.Path(folder).glob(f"server-{scenario}-20*/checks.json"):
                found = sorted((check["id"], check["status"]) for check in json.loads(checks.read_text()))
                verdicts[scenario] = "\n".join(" ".join(check) for check in found)
    if len(verdicts) < 30:
        raise Failure(f"only {len(verdicts)} scenarios ran: {output[-500:]}")
    failures = [scenario for scenario, verdict in verdicts.items() if word(verdict) in ("failure", "no verdict")]
    return verdicts, {f"all scenarios pass (not {failures})": not failures} if made_for_it else {}


def table(verdicts):
    """Scenario by scenario, one column for each way: what the reader of a CI log wants to see."""
    ways = list(verdicts)
    scenarios = dict.fromkeys(scenario for way in ways for scenario in verdicts[way])
    yield "  ".join([f"{'':32}", *(f"{way:14}" for way in ways)])
    for scenario in scenarios:
        found = [verdicts[way].get(scenario, "no verdict") for way in ways]
        cells = [word(verdict) + ("" if verdict == found[0] else " (differs)") for verdict in found]
        yield "  ".join([f"{scenario:32}", *(f"{cell:14}" for cell in cells)]).rstrip()


def word(verdict):
    for status in ("no verdict", "FAILURE", "WARNING"):
        if status in verdict:
            return status.lower()
    return "success"
