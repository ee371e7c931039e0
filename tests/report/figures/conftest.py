from __future__ import annotations

import pytest

from benchmark.report.figures import ResultSet
from tests.report.figures.synthetic import records, results


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> ResultSet:
    """Some methods of every family of protocols with three seeds each."""
    return results(records(), tmp_path_factory.mktemp("records"))
