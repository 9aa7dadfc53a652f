"""Fixtures that many tests share. Pictures are made here or come from an installed dependency."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Test processes share the cores: more threads than cores, each spinning while it waits, take several times as
# long. Set before PyTorch and NumPy are loaded; commands that tests start inherit it.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | dict(os.environ))

# Machines that run the tests are shared: how long an example takes there says nothing.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

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
def bladescan() -> RunCommand:
    """Run the real command: ``bladescan("scan", "x", stdin=b"...", cwd=..., env={...})``."""

    def run(
        *arguments: str | bytes | Path,
        stdin: bytes | None = None,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "bladescan", *arguments]
        environment = dict(os.environ) | {"COLUMNS": "100"} | (env or {})
        source = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run(
            command, capture_output=True, cwd=cwd, env=environment, timeout=timeout, check=False, **source
        )

    return run
