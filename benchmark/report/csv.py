"""Tables as CSV."""

from __future__ import annotations

import pandas as pd

from benchmark.system.escaping import csv_cell


def to_csv(frame: pd.DataFrame, float_format: str = "%.6f") -> str:
    """Return a table as CSV. Equal tables give equal text, and no cell is a formula.

    Args:
        frame: the table.
        float_format: the format of its numbers.
    """
    harmless = frame.rename(columns=csv_cell)
    for name in harmless.select_dtypes(["object", "string"]):
        harmless[name] = harmless[name].map(csv_cell)
    return harmless.to_csv(index=False, float_format=float_format, lineterminator="\n")
