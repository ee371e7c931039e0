from __future__ import annotations

import pytest

from benchmark.report.figures import Evidence
from tests.report.figures.synthetic import evidence, records


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Some methods of every family of protocols, three seeds each."""
    return evidence(records(), tmp_path_factory.mktemp("records"))
