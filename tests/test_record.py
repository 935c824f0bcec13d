"""Records: what is written is read again, and what was not written by us, or not whole, is refused."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from calibration.collect.facts import ALIKE, facts
from calibration.record import ABOUT, COLUMNS, TABLE, VERSION, pool, read_record, write_record
from simnet.errors import UserError

ROW = {"window": "0-0", "seconds": 1.0, "offered": 1000, "captured": 990, "polls_of": [0, 1, 2], "rejected": None}
HOST = {"cpu_model": "one", "cpus": 2, "kernel": "6.18"}


def write(directory: Path, **changes: Any) -> dict[str, Any]:
    directory.mkdir(exist_ok=True)
    content: dict[str, Any] = {"rows": [ROW, {**ROW, "window": "0-1", "rejected": "busy"}], "host": HOST, "campaign": {"name": "c"}}
    return write_record(directory, **{"conditions": {}, "started": "2026-01-01T00:00Z", **content, **changes})


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write(tmp_path)
    record = read_record(tmp_path)
    assert list(record.windows["offered"]) == [1000, 1000]
    assert list(record.windows["polls_of"][0]) == [0, 1, 2]
    assert list(record.good["window"]) == ["0-0"]
    assert record.host == HOST
    assert record.about["windows"] == {"all": 2, "rejected": 1}


def test_a_record_without_a_column_that_came_later_is_read_and_pooled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as then:
        then.delitem(COLUMNS, "driver_statistics")
        write(tmp_path / "older")
    write(tmp_path / "newer", rows=[{**ROW, "driver_statistics": '{"rx_queue_0_drops": 3}'}])
    older, newer = (read_record(tmp_path / name) for name in ("older", "newer"))
    assert older.windows["driver_statistics"].isna().all()
    both = pool([older, newer])
    assert list(both["offered"]) == [1000, 1000, 1000]
    assert json.loads(both["driver_statistics"].iloc[-1]) == {"rx_queue_0_drops": 3}


def test_every_column_says_what_it_is(tmp_path: Path) -> None:
    write(tmp_path)
    record = read_record(tmp_path)
    assert set(record.windows.columns) == record.about["columns"].keys() == COLUMNS.keys()
    assert all(column["meaning"] for column in record.about["columns"].values())


def test_a_column_without_a_meaning_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="colour"):
        write(tmp_path, rows=[{**ROW, "colour": 1}])


def test_a_table_that_was_changed_or_truncated_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    content = (tmp_path / TABLE).read_bytes()
    (tmp_path / TABLE).write_bytes(content[:-1])
    with pytest.raises(UserError, match="truncated, or changed"):
        read_record(tmp_path)
    (tmp_path / TABLE).write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    with pytest.raises(UserError, match="truncated, or changed"):
        read_record(tmp_path)
    (tmp_path / TABLE).unlink()
    with pytest.raises(UserError, match="cannot be read"):
        read_record(tmp_path)


def test_a_json_file_that_was_changed_or_truncated_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    text = (tmp_path / ABOUT).read_text(encoding="utf-8")
    (tmp_path / ABOUT).write_text(text.replace('"cpus": 2', '"cpus": 4'), encoding="utf-8")
    with pytest.raises(UserError, match="was changed"):
        read_record(tmp_path)
    for length in (0, 1, len(text) // 2, len(text) - 3):
        (tmp_path / ABOUT).write_text(text[:length], encoding="utf-8")
        with pytest.raises(UserError, match="not a record, or truncated"):
            read_record(tmp_path)
    for other in ("[]", "1", '{"format": "something"}', "{}", '{"format": "simnet-capture-record", "format_version": "x"}'):
        (tmp_path / ABOUT).write_text(other, encoding="utf-8")
        with pytest.raises(UserError, match="not a record"):
            read_record(tmp_path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    about = write(tmp_path)
    (tmp_path / ABOUT).write_text(json.dumps({**about, "format_version": VERSION + 1}), encoding="utf-8")
    with pytest.raises(UserError, match="written by a newer simnet"):
        read_record(tmp_path)


def test_a_record_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_record(tmp_path / "nowhere")


def test_unlike_hosts_are_not_pooled(tmp_path: Path) -> None:
    for name, host in (("a", HOST), ("b", HOST), ("c", {**HOST, "kernel": "6.1"})):
        write(tmp_path / name, host=host)
    a, b, c = (read_record(tmp_path / name) for name in "abc")
    assert list(pool([a, b])["record"]) == [0, 0, 1, 1]
    with pytest.raises(UserError, match=r"records 1 and 3 .*kernel: '6.18' and '6.1'"):
        pool([a, b, c])


def test_facts_name_no_host_address_or_path(tmp_path: Path) -> None:
    host = facts()
    assert set(ALIKE) <= host.keys()
    write(tmp_path, host=host)
    text = (tmp_path / ABOUT).read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    name = socket.gethostname()
    assert len(name) < 4 or name not in text
    values = json.dumps(host)
    assert not re.search(r"\b\d+\.\d+\.\d+\.\d+\b|([0-9a-f]{2}:){5}", values)
    assert "/home" not in values
