"""Fixtures that many tests share. Pictures are made here or come from an installed dependency."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from typer.testing import CliRunner, Result

from tests.once import FOLDER_VARIABLE
from tests.prepared import LEARN, LEARNING, SCANNING, PreparedCommand, environment

# Test processes share the cores: more threads than cores, each spinning while it waits, take several times as
# long. Set before PyTorch and NumPy are loaded; commands that tests start inherit it.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | dict(os.environ))

# Machines that run the tests are shared: how long an example takes there says nothing.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder of `tests.once`, unless the process that started this one has."""
    if FOLDER_VARIABLE not in os.environ:
        folder = os.environ[FOLDER_VARIABLE] = tempfile.mkdtemp(prefix="tests-made-once-")
        config.add_cleanup(lambda: os.environ.pop(FOLDER_VARIABLE))
        config.add_cleanup(lambda: shutil.rmtree(folder))


RunCommand = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real images that ``BLADESCAN_DATA`` names."""
    folder = os.environ.get("BLADESCAN_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("BLADESCAN_DATA does not name a folder of test images")
    return Path(folder)


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The five pictures of ``bladescan demo``."""
    from bladescan.command.demo import write_samples

    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder)
    return folder


@pytest.fixture(scope="session")
def bladescan() -> Iterator[RunCommand]:
    """Run the real command: ``bladescan("scan", "x", stdin=b"...", cwd=..., env={...})``.

    In its own process, which is forked from one that has imported what it needs (`tests.prepared`), or, where
    the environment is particular, started as from a shell.
    """
    servers: dict[tuple[str, ...], PreparedCommand] = {}
    usual = environment()

    def run(
        *arguments: str | bytes | Path,
        stdin: bytes | None = None,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[bytes]:
        if env is None and environment() == usual:
            modules = LEARNING if arguments and arguments[0] in LEARN else SCANNING
            server = servers.get(modules) or servers.setdefault(modules, PreparedCommand(modules))
            return server.run(list(map(os.fsdecode, arguments)), cwd or Path.cwd(), stdin or b"", timeout)
        command = [sys.executable, "-m", "bladescan", *arguments]
        source = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run(
            command,
            capture_output=True,
            cwd=cwd,
            env=environment() | (env or {}),
            timeout=timeout,
            check=False,
            **source,
        )

    yield run
    for server in servers.values():
        server.close()


@pytest.fixture(scope="session")
def in_process() -> Callable[..., Result]:
    """Run the command in this process: for what needs no process of its own, which takes seconds to start."""
    from bladescan.command.app import app

    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])
