"""Check the Dockerfile: ``python .ci/image.py SAMPLES`` scans pictures as the image is meant to run.

Where a Docker daemon answers, the image is built and run. Elsewhere the Dockerfile's instructions for
the CPU are done by hand: its files copied, its RUN lines run in a fresh folder, its command started with its
variables as its user, with all file systems read-only but a temporary /tmp, and no network. That needs root
on Linux; without it, the scan runs as whoever calls. hadolint lints the file if it is installed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
COUNTS = {"not-flagged", "ai-generated", "no-face", "unreadable"}
SCAN = ["scan", "/pictures", "--format", "jsonl", "--fail-on", "none", "--quiet"]


class Instruction(NamedTuple):
    """A line of a Dockerfile: ``RUN`` and what it says."""

    word: str
    rest: str


def instructions(text: str) -> list[Instruction]:
    """Read a Dockerfile: comments left out, continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Instruction(*line.split(" ", 1)) for line in joined.splitlines() if line.strip()]


def stages(found: list[Instruction], arguments: dict[str, str]) -> dict[str, list[Instruction]]:
    """Split instructions by stage, those of the stage that it stands on first; the last is ``final``."""
    arguments = dict(arguments)
    by_name: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for word, rest in found:
        if word == "ARG" and not by_name:
            name, _, default = rest.partition("=")
            arguments.setdefault(name, default)
        elif word == "FROM":
            base, _, name = filled(rest, arguments).partition(" AS ")
            current = by_name[name or "final"] = list(by_name.get(base, []))
        else:
            current.append(Instruction(word, rest))
    return by_name


def filled(text: str, values: dict[str, str]) -> str:
    """Replace ``${NAME}``."""
    return re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], text)


def variables(stage: list[Instruction]) -> dict[str, str]:
    """Read what ENV sets, with PATH as it was before."""
    values = {"PATH": os.environ["PATH"]}
    for word, rest in stage:
        if word == "ENV":
            for setting in shlex.split(rest):
                name, _, value = setting.partition("=")
                values[name] = filled(value, values)
    return values


def build_by_hand(stage: list[Instruction], image: Path, python: str) -> None:
    """Do WORKDIR, COPY and RUN below a folder; ``python`` is the image's."""
    folder = image
    environment = variables(stage) | {k: v for k, v in os.environ.items() if k.startswith("PIP_")}
    for word, rest in stage:
        if word == "WORKDIR":
            folder = image / rest.lstrip("/")
            folder.mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            *names, to = shlex.split(rest)
            for name in names:
                _copy(ROOT / name, folder / to / Path(name).name if to.endswith("/") else folder / to)
        elif word == "RUN":
            line = rest.replace("/opt/bladescan", str(image / "opt/bladescan"))
            line = re.sub(r"(^|&& )python ", rf"\g<1>{python} ", line)
            subprocess.run(["bash", "-euo", "pipefail", "-c", line], cwd=folder, env=environment, check=True)


def _copy(source: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, to, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, to)


def command_by_hand(stage: list[Instruction], image: Path, samples: Path) -> list[str]:
    """Write how the image's command is started in this machine's file systems."""
    said = dict(stage)
    settings = [
        f"{name}={value.replace('/opt/bladescan', f'{image}/opt/bladescan')}"
        for name, value in variables(stage).items()
    ]
    line = [
        str(samples) if word == "/pictures" else word for word in (*json.loads(said["ENTRYPOINT"]), *SCAN)
    ]
    command = ["env", "-i", *settings, *line]
    if os.geteuid() or not (shutil.which("unshare") and shutil.which("setpriv")):
        return command
    user, _, group = said["USER"].partition(":")
    ids = [f"--reuid={user}", f"--regid={group}", "--clear-groups"]
    # The Python of this machine may lie in a folder that only root may enter.
    may_read = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    as_user = shlex.join(["setpriv", *ids, *may_read, "--no-new-privs", *command])
    alone = f"mount -o remount,ro,bind / && mount -t tmpfs tmpfs /tmp && exec {as_user}"
    return ["unshare", "--mount", "--net", "bash", "-euo", "pipefail", "-c", alone]


def command_in_docker(tag: str, samples: Path) -> list[str]:
    """Write how the image is started, as the README does."""
    shut = ["--read-only", "--tmpfs", "/tmp", "--network", "none", "--cap-drop", "ALL"]
    return ["docker", "run", "--rm", *shut, "-v", f"{samples}:/pictures:ro", tag, *SCAN]


def lint() -> None:
    """Lint the Dockerfile, if hadolint is there."""
    hadolint = shutil.which("hadolint")
    if hadolint:
        subprocess.run([hadolint, ROOT / "Dockerfile"], check=True)
    print("Dockerfile: linted" if hadolint else "Dockerfile: no hadolint to lint it with")


def check(command: list[str], n_files: int) -> None:
    """Run a scan; every file must have a record with a verdict."""
    out = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd="/").stdout
    records = [record for record in map(json.loads, out.splitlines()) if "verdict" in record]
    verdicts = [record["verdict"] for record in records]
    if len(verdicts) != n_files or set(verdicts) - COUNTS:
        sys.exit(f"{n_files} files, but the scan says {verdicts}")
    print(f"{n_files} files scanned: {', '.join(verdicts)}")


def main(samples: Path) -> None:
    """Lint, build, run."""
    lint()
    n_files = sum(path.is_file() for path in samples.iterdir())
    daemon = shutil.which("docker") and not subprocess.run(["docker", "info"], capture_output=True).returncode
    if daemon:
        subprocess.run(["docker", "build", "--quiet", "-t", "bladescan:check", ROOT], check=True)
        return check(command_in_docker("bladescan:check", samples.resolve()), n_files)
    print("no Docker daemon: the instructions are done by hand")
    found = stages(instructions((ROOT / "Dockerfile").read_text()), {"VARIANT": "cpu"})
    # Not below /tmp, which the scan gets empty.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        image = Path(folder)
        image.chmod(0o755)
        build_by_hand(found["build"], image, sys.executable)
        pictures = shutil.copytree(samples, image / "pictures")
        check(command_by_hand(found["final"], image, pictures), n_files)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
