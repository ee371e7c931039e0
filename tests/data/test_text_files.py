from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmark.data.text_files import read_json, read_table, read_text
from benchmark.errors import InputError

ROWS = [["filename", "label"], ["a b.jpg", "n01"], ["ñ.jpg", "n02"]]


@pytest.mark.parametrize("separator", [",", ", ", " , ", ";", "\t", "; "])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_tables_are_read_as_spreadsheets_save_them(tmp_path: Path, separator: str, encoding: str, end: str) -> None:
    content = end.join(["", *(separator.join(row) for row in ROWS), ""]).encode(encoding)
    mark = b"\xff\xfe" if encoding == "utf-16-le" else b""
    (tmp_path / "x.csv").write_bytes(mark + content)
    assert read_table(tmp_path / "x.csv") == ROWS


def test_quoted_cells_keep_their_separators(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('"a";"b, c"\n1;"2;3"\n;\n')
    assert read_table(tmp_path / "x.csv") == [["a", "b, c"], ["1", "2;3"]]


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("filename,größe".encode("latin-1"))
    with pytest.raises(InputError, match=r"x\.csv is no UTF-8 text .*; save it as UTF-8"):
        read_table(path)
    path.write_bytes(b"\n \n")
    with pytest.raises(InputError, match=r"x\.csv is empty"):
        read_table(path)
    for read in (read_text, read_json, read_table):
        with pytest.raises(InputError, match="nowhere cannot be read"):
            read(tmp_path / "nowhere")
        with pytest.raises(InputError, match="cannot be read"):
            read(tmp_path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_table_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    with contextlib.suppress(InputError):
        assert all(cell == cell.strip() for row in read_table(tmp_path / "x.csv") for cell in row)
