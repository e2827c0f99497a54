"""Sources, templates and prototypes: from the options of `balsam job` to jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as sampled
from hypothesis import strategies as st

from balsam.cli.prototype import Given, Prototype
from balsam.cli.sources import Array, Lines, Single, open_records
from balsam.cli.templates import Templates
from balsam.cli.values import field_name, field_value, memory_mib, pair, parameter
from balsam.errors import InvalidInput, InvalidResources, UnknownField
from balsam.model.app import App
from balsam.model.job import Job

BASIC = {"name": "n{i}", "workflow": "w", "application": "a"}


APPS = {"sim": App(name="sim", executable="sim {{beta}}")}


def made(source: Any, job: Job | None = None, **said: Any) -> list[Job]:
    """All jobs of *source* with the options *said*, after the check that `balsam job` does."""
    said = {"texts": BASIC, **said}
    prototype = Prototype(job or Job(), Given(**said), source)
    prototype.check(APPS)
    return [job for batch in prototype.batches(2) for job in batch]


# ranges ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0-3", [0, 1, 2, 3]),
        ("7", [7]),
        ("0-10:5", [0, 5, 10]),
        ("0-9:4", [0, 4, 8]),
        ("1,4,7-9", [1, 4, 7, 8, 9]),
    ],
)
def test_array(text: str, numbers: list[int]) -> None:
    array = Array(text)
    assert [record[0] for record in array.records()] == numbers
    assert array.count() == len(numbers)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "''"),
        ("a-b", "'a-b'"),
        ("9-0", "ends before"),
        ("0-9:0", "step"),
        ("-5", "'-5'"),
        ("0-9,", "''"),
        ("1.5", "'1.5'"),
        ("0-99999999999", "most"),
        ("99999999999999999999", "too large"),
    ],
)
def test_array_refused(text: str, word: str) -> None:
    with pytest.raises(InvalidInput, match=word):
        Array(text)


def test_array_is_checked_without_making_every_job() -> None:
    prototype = Prototype(Job(), Given(texts=BASIC), Array("0-4000000000"))
    summary = prototype.check({})
    assert summary.first is not None
    assert summary.first.name == "n0"
    assert summary.applications == {"a"}


# templates -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{i}", "7"),
        ("run_{i:04d}.{i}", "run_0007.7"),
        ("awk '{print $1}' {i}", "awk '{print $1}' 7"),
        ('{"a": {i}}', '{"a": 7}'),
        ('{"a": {"b": {i}}}', '{"a": {"b": 7}}'),
        ("{{i}} {i}", "{{i}} 7"),
        ("{{ i }}/{i}", "{{ i }}/7"),
        ("{j} {i} {}", "{j} 7 {}"),
        ("%d {i} %s", "%d 7 %s"),
        ("{i:x}|{i:>5}", "7|    7"),
    ],
)
def test_only_known_names_are_replaced(text: str, result: str) -> None:
    maker = Templates({"i": 0}, whole=True).compile(text, "args")
    assert maker is not None
    assert maker((7,)) == result


@pytest.mark.parametrize("text", ["plain", "{j}", "{{i}}", "awk '{print $1}'", '{"a": 1}', ""])
def test_text_without_known_names_is_shared(text: str) -> None:
    assert Templates({"i": 0}, whole=True).compile(text, "args") is None


@sampled(st.text(alphabet='{}i:04d "\\x', max_size=12))
def test_any_braces_survive(text: str) -> None:
    # Without names nothing is a template, whatever the text holds.
    assert Templates({}).compile(text, "args") is None
    maker = Templates({"i": 0}).compile(text + "{i}", "args")
    assert maker is not None
    try:
        filled = maker((5,))
    except InvalidInput:
        return  # a format that numbers have not
    assert filled.endswith("5") or (text + "{i}").endswith("{{i}")


def test_wrong_format_is_refused_at_once() -> None:
    with pytest.raises(InvalidInput, match=r"--name: \{i:c\}"):
        made(Array("0-3"), texts={**BASIC, "name": "n{i:c}"})


def test_data_keeps_json_types() -> None:
    (job,) = made(Array("3"), data='{"a": {i}, "s": "x{i}", "l": [{i}], "f": "{i:03d}"}')
    assert job.data == {"a": 3, "s": "x3", "l": [3], "f": "003"}


@sampled(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).map(str.strip))
def test_lines_are_escaped_inside_json(line: str) -> None:
    maker = Templates({"line": 0}).compile_json('{"s": "<{line}>"}', "--data")
    assert maker is not None
    assert maker((line,)) == {"s": f"<{line}>"}


@pytest.mark.parametrize(
    ("value", "result"),
    [("5", 5), ("0.5", 0.5), ("true", True), ("word", "word"), ('"q', '"q'), ([1], [1])],
)
def test_bare_data_takes_json_or_text(value: Any, result: Any) -> None:
    maker = Templates({"x": 0}).compile_json('{"v": {x}}', "--data")
    assert maker is not None
    assert maker((value,)) == {"v": result}


def test_params_are_numbers_where_they_look_like_it() -> None:
    entries = {"param": {"n": "{i}", "half": "0.{i}", "id": "00{i}", "word": "w{i}", "fix": "4"}}
    (job,) = made(Array("5"), entries=entries)
    assert job.parameters == {"n": 5, "half": 0.5, "id": "005", "word": "w5", "fix": 4}


def test_tags_and_environment_stay_text() -> None:
    entries = {"tag": {"n": "{i}", "k": "2"}, "env": {"PATH": "/a:/b", "N": "{i}"}}
    (job,) = made(Array("5"), entries=entries)
    assert job.tags == {"n": "5", "k": "2"}
    assert job.environ == {"PATH": "/a:/b", "N": "5"}


def test_one_job_has_no_templates() -> None:
    (job,) = made(Single(), texts={**BASIC, "name": "x", "args": "{i} {line}"})
    assert job.args == "{i} {line}"


def test_jobs_do_not_share_what_is_made_for_each() -> None:
    first, second = made(Array("0-1"), entries={"tag": {"n": "{i}", "k": "same"}})
    assert (first.tags["n"], second.tags["n"]) == ("0", "1")
    assert first.tags["k"] == second.tags["k"] == "same"


# files -----------------------------------------------------------------------------------


def test_lines(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_text("alpha\n\n  beta gamma\r\nlast")
    jobs = made(Lines(str(file)), texts={**BASIC, "args": "{i}:{line}"})
    assert [job.args for job in jobs] == ["0:alpha", "1:  beta gamma", "2:last"]


def test_csv(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    file.write_text(
        "\ufeffsize,num_nodes,tag:kind,param:t,data:ok,note,args\n"
        '8,2,small,0.5,1,"a, ""b""",--one\n'
        '16,,big,07,word,"two\nlines",\n'
    )
    first, second = made(open_records(str(file)), texts={**BASIC, "name": "s{size:03d}_{i}"})
    assert (first.name, second.name) == ("s008_0", "s016_1")
    assert (first.num_nodes, second.num_nodes) == (2, 1)
    assert (first.tags, second.tags) == ({"kind": "small"}, {"kind": "big"})
    assert (first.parameters, second.parameters) == ({"t": 0.5}, {"t": "07"})
    assert (first.data, second.data) == ({"ok": 1}, {"ok": "word"})
    assert (first.args, second.args) == ("--one", "")


def test_unused_columns_are_known(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    file.write_text("size,nmu_nodes,name\n8,2,x\n")
    prototype = Prototype(
        Job(), Given(texts={"workflow": "w{size}", "application": "a"}), open_records(str(file))
    )
    assert prototype.unused == ["nmu_nodes"]


def test_options_win_over_columns(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    file.write_text("name,tag:k,num_nodes\nx,column,4\n")
    (job,) = made(
        open_records(str(file)),
        texts={**BASIC, "name": "job-{name}"},
        entries={"tag": {"k": "option"}},
        values={"num_nodes": 2},
    )
    assert (job.name, job.tags, job.num_nodes) == ("job-x", {"k": "option"}, 2)


JSON_ROWS = [
    {"name": "a", "x": 1.5, "data": {"k": [1]}, "on": True, "tags": {"n": 1}, "parents": [3, 4]},
    {"name": "b", "x": "s", "wall_time_minutes": 90, "on": None},
]


@pytest.mark.parametrize("kind", ["json", "wrapped", "jsonl", "toml"])
def test_records(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"runs.{'json' if kind == 'wrapped' else kind}"
    if kind == "jsonl":
        file.write_text("\n\n".join(map(json.dumps, JSON_ROWS)))
    elif kind == "toml":
        file.write_text(
            '[[job]]\nname="a"\nx=1.5\ndata={k=[1]}\non=true\ntags={n=1}\nparents=[3,4]\n'
            '[[job]]\nname="b"\nx="s"\nwall_time_minutes=90\n'
        )
    else:
        file.write_text(json.dumps({"jobs": JSON_ROWS} if kind == "wrapped" else JSON_ROWS))
    first, second = made(
        open_records(str(file)),
        texts={"workflow": "w", "application": "a", "args": "{x} {i}"},
    )
    assert (first.name, first.args, first.data) == ("a", "1.5 0", {"k": [1]})
    assert (first.tags, first.parents, first.wall_time_minutes) == ({"n": "1"}, [3, 4], 0)
    assert (second.name, second.args, second.wall_time_minutes) == ("b", "s 1", 90)
    assert (second.data, second.tags, second.parents) == ({}, {}, [])


def test_json_values_in_text_are_json(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    file.write_text('{"on": true, "l": [1, "a"]}\n')
    (job,) = made(open_records(str(file)), texts={**BASIC, "args": "--on={on} {l}"})
    assert job.args == '--on=true [1,"a"]'


def test_json_text_stays_text(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    file.write_text('{"x": "5", "data:y": "6", "param:z": "7"}\n{"x": "a\\"b"}\n')
    entries = {"param": {"x": "{x}"}}
    first, second = made(open_records(str(file)), entries=entries, data='{"x": {x}}')
    assert first.parameters == {"x": "5", "z": "7"}
    assert first.data == {"x": "5", "y": "6"}
    assert second.data == {"x": 'a"b'}
    file.write_text('{"data": "a text"}\n')
    (job,) = made(open_records(str(file)))
    assert job.data == "a text"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "x,y\n1,2\n3\n", ["line 3", "column 2", "'y'"]),
        ("a.csv", "x,y\n1,2,3\n", ["line 2", "column 3", "'3'"]),
        ("a.csv", 'x,y\n1,"2\n', ["line 2", "CSV"]),
        ("a.csv", "x,,y\n1,2,3\n", ["line 1", "column 2", "no name"]),
        ("a.csv", "x,y,x\n1,2,3\n", ["line 1", "column 3", "'x'"]),
        ("a.csv", "", ["empty"]),
        ("a.csv", "num_nodes\n2\nmany\n", ["line 3", "num_nodes", "'many'"]),
        ("a.csv", "num_nodes\n2\n-1\n", ["line 3", "num_nodes", "-1"]),
        ("a.csv", "data\n{}\n{]\n", ["line 3", "data", "column 2"]),
        ("a.csv", "name\nok\na/b\n", ["line 3", "'a/b'"]),
        ("a.jsonl", '{"x": 1}\n{"x": }\n', ["line 2", "column 7", "JSON"]),
        ("a.jsonl", '{"x": 1}\n[1]\n', ["line 2", "object", "[1]"]),
        ("a.jsonl", '{"x": 1}\n{"y": 2}\n', ["line 2", "{x}", "no value"]),
        ("a.jsonl", '{"x": 1, "priority": "high"}\n', ["line 1", "priority", "'high'"]),
        ("a.json", '[{"x": 1},\n {"x": 2,}]', ["line 2", "column", "JSON"]),
        ("a.json", '{"x": 1}', ["array of objects"]),
        ("a.json", '[{"x": 1}, 5]', ["record 2", "object", "5"]),
        ("a.toml", "[[job]]\nx = \n", ["line 2", "column", "TOML"]),
        ("a.toml", "x = 1\n", ["[[job]]"]),
        ("a.xlsx", "", [".csv", ".jsonl"]),
    ],
)
def test_malformed_files(tmp_path: Path, name: str, text: str, words: list[str]) -> None:
    file = tmp_path / name
    file.write_text(text)
    texts = dict(BASIC)
    if "x" in text and "priority" not in text:
        texts["args"] = "{x}"
    if text.startswith("name"):
        del texts["name"]
    with pytest.raises(InvalidInput) as caught:
        made(open_records(str(file)), texts=texts)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_bytes(b"good\nb\xe9d\n")
    with pytest.raises(InvalidInput, match="line 2: not UTF-8 at column 2"):
        made(Lines(str(file)), texts={**BASIC, "args": "{line}"})
    file.write_bytes(b"good\nb\0d\n")
    with pytest.raises(InvalidInput, match="line 2: a NUL character at column 2"):
        made(Lines(str(file)), texts={**BASIC, "args": "{line}"})


def test_quotation_without_end_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_text("good\nit's\n")
    with pytest.raises(InvalidInput, match=r"line 2.*it's"):
        made(Lines(str(file)), texts={**BASIC, "args": "{line}"})


def test_missing_file() -> None:
    with pytest.raises(InvalidInput, match=r"--from-file /nowhere/x\.csv.*No such file"):
        open_records("/nowhere/x.csv")


def test_impossible_resources_keep_their_error() -> None:
    with pytest.raises(InvalidResources, match="num_nodes is 0"):
        made(Array("0-1"), values={"num_nodes": 0})


# values ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mib"),
    [("512", 512), ("512M", 512), ("4G", 4096), ("1.5GiB", 1536), ("1t", 2**20), ("1K", 1)],
)
def test_memory(text: str, mib: int) -> None:
    assert memory_mib(text) == mib


@pytest.mark.parametrize("text", ["", "-1", "4X", "G", "four", "4 4"])
def test_memory_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        memory_mib(text)


@pytest.mark.parametrize("text", ["007", "1.10", "1e-3", "0x10", "inf", "nan", "1_000", "", "٣"])
def test_parameters_that_stay_text(text: str) -> None:
    assert parameter(text) == text


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("auto_timeout_retry", "False", False),
        ("auto_timeout_retry", "yes", True),
        ("num_nodes", "4", 4),
        ("gpus_per_rank", "0.25", 0.25),
        ("memory_mib", "2G", 2048),
        ("data", "[1, null]", [1, None]),
        ("data", '"text"', "text"),
        ("tags", '{"a": 1}', {"a": "1"}),
        ("tags", "a=1 b='x y'", {"a": "1", "b": "x y"}),
        ("environ", "PATH=/a:/b", {"PATH": "/a:/b"}),
        ("parameters", "n=5 s=x", {"n": 5, "s": "x"}),
        ("args", "5", "5"),
    ],
)
def test_values_by_field(field: str, text: str, value: Any) -> None:
    found = field_value(field, text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("auto_timeout_retry", "perhaps"),
        ("num_nodes", "4.5"),
        ("data", "{"),
        ("tags", "word"),
        ("tags", "[1]"),
        ("parameters", "a='b"),
    ],
)
def test_values_refused(field: str, text: str) -> None:
    with pytest.raises(InvalidInput):
        field_value(field, text)


def test_field_names() -> None:
    assert field_name("wall-time-minutes") == "wall_time_minutes"
    assert field_name("environ_vars") == "environ"
    with pytest.raises(UnknownField, match="num_nodes"):
        field_name("num_node")
    with pytest.raises(UnknownField, match="set by Balsam"):
        field_name("exit_code")


def test_pair_splits_at_the_first_sign() -> None:
    assert pair("PATH=/a:/b=c", "--env") == ("PATH", "/a:/b=c")
    with pytest.raises(InvalidInput, match="--env takes NAME=VALUE, not 'PATH'"):
        pair("PATH", "--env")
