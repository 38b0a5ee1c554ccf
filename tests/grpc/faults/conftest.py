"""Deadlines for the faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from .._bounds import bound_tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    bound_tests(Path(__file__).parent, items)
