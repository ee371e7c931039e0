"""What a notebook shows of comparisons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.report.compare import Comparison, sentences, to_rows

if TYPE_CHECKING:
    import pandas as pd


class Comparisons(list[Comparison]):
    """Comparisons that print as their sentences and show as a table in a notebook."""

    def table(self) -> pd.DataFrame:
        """Return one row per comparison, as ``compare --json`` has them. Accuracies are in [0, 1]."""
        import pandas as pd

        return pd.DataFrame(to_rows(self))

    def __repr__(self) -> str:
        return "\n".join(sentences(self))

    def _repr_html_(self) -> str:
        html: str = self.table().to_html(index=False, na_rep="", float_format="{:.4f}".format)
        return html
