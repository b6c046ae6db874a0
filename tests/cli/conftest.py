"""Configurations and a daemon's socket for the command's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

WriteConfiguration = Callable[[str], Path]


@pytest.fixture
def write_configuration(tmp_path: Path) -> WriteConfiguration:
    """Write a configuration with the outbox in the test's own folder; `more` is appended."""

    def write(more: str = "") -> Path:
        path = tmp_path / "gateway.toml"
        path.write_text(f'[site]\nstore = "0042"\ngateway = "front"\n[outbox]\ndirectory = "{tmp_path}/outbox"\n{more}')
        return path

    return write
