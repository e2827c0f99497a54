"""`balsam ls`: every kind, view and selector, in text and JSON."""

from __future__ import annotations

import json
import re

import pytest

FINISHED = ["grain0", "grain1", "grain2", "grain3", "grain4", "parent", "child"]
#: Every key that the contract promises, and those that follow from the fields of a job.
JOB_KEYS = {
    *("id", "job_id", "name", "workflow", "application", "args", "state", "tags", "data"),
    *("parents", "attempt", "exit_code", "workdir", "parameters", "environ", "priority"),
    *("num_nodes", "ranks_per_node", "gpus_per_rank", "created_at", "updated_at", "owner"),
}
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def records(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def names(done):
    return [record["name"] for record in records(done)]


# text ------------------------------------------------------------------------------------


def test_jobs_are_a_table_with_the_id_first(campaign):
    lines = campaign("ls").stdout.splitlines()
    columns = [word.strip() for word in lines[0].split(" | ")]
    assert columns == ["id", "name", "workflow", "application", "state"]
    assert lines[1] == "-" * len(lines[0])
    assert [line.split(" | ")[0].strip() for line in lines[2:]] == [str(n) for n in range(1, 12)]
    # The header stands to the right of its column, values to the left.
    assert lines[0].startswith("id |     name |   workflow |")
    assert lines[2].startswith("1  | grain0   | alloys/fcc | say ")


def test_empty_site_and_empty_selection(balsam, campaign):
    assert balsam("ls").stdout == "No jobs found matching query\n"
    for selector in (("--name", "nothing"), ("--id", "4711"), ("--id", "9" * 5000)):
        assert campaign("ls", *selector).stdout == "No jobs found matching query\n"
    assert balsam("ls", "apps").stdout == "No apps found matching query\n"
    assert balsam("ls", "wf").stdout == "No workflows found matching query\n"
    assert balsam("ls", "queues").stdout == "No batch jobs found matching query\n"
    assert balsam("ls", "events").stdout == "No events found matching query\n"
    for kind in ("jobs", "apps", "wf", "queues", "events"):
        assert records(balsam("ls", kind, "--json")) == []
    assert records(balsam("ls", "--by-states", "--json")) == {}


@pytest.mark.parametrize("option", ["--history", "--hist"])
def test_history(campaign, option):
    lines = campaign("ls", option, "--name", "broken").stdout.splitlines()
    assert re.fullmatch(r"Job broken \[6 \| [0-9a-f-]{36}\]", lines[0])
    events = [re.fullmatch(r"\[(\S+ \S+) (\w+)\](.*)", line) for line in lines[2:] if line]
    assert all(events)
    states = [event[2] for event in events if event]
    assert states[0] in ("CREATED", "PREPROCESSED")
    assert states[-1] == "FAILED"
    assert "RUNNING" in states
    assert all(re.fullmatch(r"\d\d-\d\d-\d{4} \d\d:\d\d:\d\d\.\d{6}", e[1]) for e in events if e)


@pytest.mark.parametrize("option", ["--verbose", "--verb"])
def test_verbose(campaign, option):
    out = campaign("ls", "jobs", option, "--id", "3").stdout
    assert re.search(r"^ *args: hello 2$", out, re.MULTILINE)
    assert re.search(r'^ *tags: {"size":"2"}$', out, re.MULTILINE)
    assert re.search(r"^ *state: JOB_FINISHED$", out, re.MULTILINE)


def test_tree(campaign):
    lines = campaign("ls", "--tree", "--wf", "tree").stdout.splitlines()
    assert lines == ["7 parent [tree] JOB_FINISHED", "|   8 child [tree] JOB_FINISHED"]


def test_tree_shows_a_job_under_each_parent_but_opens_it_once(balsam):
    balsam("app", "--name", "a", "--exec", "/bin/true")
    job = ("job", "--workflow", "w", "--app", "a", "--yes", "--name")
    balsam(*job, "left")
    balsam(*job, "right")
    balsam(*job, "both", "--after", "1", "--after", "2")
    balsam(*job, "end", "--after-any", "3")
    assert balsam("ls", "--tree").stdout.splitlines() == [
        "1 left [w] PREPROCESSED",
        "|   3 both [w] AWAITING_PARENTS",
        "|   |   4 end [w] AWAITING_PARENTS (in any case)",
        "2 right [w] PREPROCESSED",
        "|   3 both [w] AWAITING_PARENTS (see above)",
    ]


def test_by_states(campaign):
    out = campaign("ls", "--by-states").stdout
    assert "    JOB_FINISHED  7\n" in out
    assert "          FAILED  1\n" in out
    assert out.index("AWAITING_PARENTS") < out.index("JOB_FINISHED") < out.index("USER_KILLED")
    counts = records(campaign("ls", "jobs", "--by-states", "--json"))
    assert counts == {
        "AWAITING_PARENTS": 1,
        "PREPROCESSED": 1,
        "JOB_FINISHED": 7,
        "FAILED": 1,
        "USER_KILLED": 1,
    }
    assert records(campaign("ls", "--by-states", "--json", "--wf", "alloys")) == {
        "JOB_FINISHED": 5,
        "FAILED": 1,
    }


# columns and limits ----------------------------------------------------------------------


def test_further_columns(campaign):
    env = {"BALSAM_LS_FIELDS": "num_nodes:data__energy:tags:state"}
    lines = campaign("ls", "--id", "5", env=env).stdout.splitlines()
    header = [word.strip() for word in lines[0].split(" | ")]
    assert header[5:] == ["num_nodes", "data__energy", "tags"]
    assert [word.strip() for word in lines[2].split(" | ")][5:] == ["1", "4", '{"size":"4"}']


def test_columns_from_the_settings(balsam, site):
    balsam("app", "--name", "a", "--exec", "/bin/true")
    balsam("job", "--name", "x", "--workflow", "w", "--app", "a", "--yes")
    (site / "balsam.toml").write_text('[ls]\nfields = ["priority"]\n')
    assert balsam("ls").stdout.splitlines()[0].endswith("| priority")


def test_unknown_column(campaign):
    done = campaign("ls", env={"BALSAM_LS_FIELDS": "num_node"})
    assert done.returncode == 2
    assert done.stdout == ""
    assert "'num_node'" in done.stderr
    assert "Did you mean 'num_nodes'?" in done.stderr
    assert done.stderr.count("\n") == 1


def test_limit_is_told(campaign):
    done = campaign("ls", env={"BALSAM_LS_LIMIT": "3"})
    assert len(done.stdout.splitlines()) == 2 + 3
    assert "of 11 rows only 3 are shown" in done.stderr
    done = campaign("ls", "--limit", "4", env={"BALSAM_LS_LIMIT": "3"})
    assert len(done.stdout.splitlines()) == 2 + 4
    for all_of_them in (campaign("ls", "--limit", "11"), campaign("ls", "--limit", "0")):
        assert len(all_of_them.stdout.splitlines()) == 2 + 11
        assert all_of_them.stderr == ""
    # JSON is for programs: it is cut only by what its caller says.
    assert len(records(campaign("ls", "--json", env={"BALSAM_LS_LIMIT": "3"}))) == 11
    assert len(records(campaign("ls", "--json", "--limit", "2"))) == 2
    wrong = campaign("ls", env={"BALSAM_LS_LIMIT": "few"})
    assert wrong.returncode == 2
    assert "'few'" in wrong.stderr


def test_order(campaign):
    assert names(campaign("ls", "--json", "--order", "-id", "--limit", "2")) == ["unwanted", "last"]
    assert names(campaign("ls", "--json", "--order", "name,id"))[:2] == ["broken", "child"]
    wrong = campaign("ls", "--order", "nam")
    assert wrong.returncode == 2
    assert "Did you mean 'name'?" in wrong.stderr


# selectors -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--name", "GRAIN"], FINISHED[:5]),
        (["--name", "ain3"], ["grain3"]),
        (["--wf", "alloys"], [*FINISHED[:5], "broken"]),
        (["--workflow", "fcc"], FINISHED[:5]),
        (["--state", "FAILED"], ["broken"]),
        (["--state", "failed,USER_KILLED"], ["broken", "unwanted"]),
        (["--state", "FAILED", "--state", "USER_KILLED"], ["broken", "unwanted"]),
        (["--tag", "size=2"], ["grain2"]),
        (["--tag", "size=2", "--tag", "kind=a"], []),
        (["--filter", "data__energy__gte=3"], ["grain3", "grain4"]),
        (["--filter", "name__startswith=p"], ["parent"]),
        (["--filter", "args=second"], ["child"]),
        (["--filter", "id__in=[1,6]"], ["grain0", "broken"]),
        (["--filter", "id__in=1,6"], ["grain0", "broken"]),
        (["--filter", "tags__has_key=size", "--filter", "id__gt=4"], ["grain4"]),
        (["--filter", "exit_code=3"], ["broken"]),
        (["--filter", "exit_code__isnull=true", "--wf", "later"], ["later", "last", "unwanted"]),
        (["--filter", "created_at__lt=2000-01-01T00:00:00Z"], []),
        (["--filter", "parents=7"], ["child"]),
        (["--id", "6"], ["broken"]),
    ],
    ids=" ".join,
)
def test_selectors(campaign, options, expected):
    assert names(campaign("ls", "--json", *options)) == expected


def test_id_by_uuid_and_prefix(campaign):
    broken = records(campaign("ls", "--json", "--id", "6"))[0]
    for text in (broken["job_id"], broken["job_id"].upper(), broken["job_id"][:8]):
        assert names(campaign("ls", "--json", "--id", text)) == ["broken"]
    ids = [record["job_id"] for record in records(campaign("ls", "--json"))]
    first = broken["job_id"][0]
    if not first.isdecimal():
        begun = [job_id for job_id in ids if job_id[0] == first]
        assert len(records(campaign("ls", "--json", "--id", first))) == len(begun)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--state", "FAILURE"], 2, ("'FAILURE'", "Did you mean 'FAILED'?")),
        (["--filter", "nam=x"], 2, ("'nam'", "Did you mean 'name'?")),
        (["--filter", "name__contain=x"], 2, ("'contain'", "Did you mean 'contains'?")),
        (["--filter", "priority=high"], 2, ("priority", "'high'")),
        (["--filter", "priority"], 2, ("'priority'", "FIELD__LOOKUP=VALUE")),
        (["--filter", "exit_code__isnull=3"], 2, ("exit_code__isnull", "3")),
        (["--filter", "created_at__gt=yesterday"], 2, ("created_at__gt", "'yesterday'")),
        (["--tag", "size"], 2, ("'size'", "K=V")),
        (["--id", "twelve"], 2, ("'twelve'", "no job id")),
        (["--tree", "--order", "name"], 2, ("--order", "--tree")),
        (["--width", "3"], 2, ("--width", "--tree")),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_wrong_selectors(campaign, options, code, words):
    done = campaign("ls", *options)
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("balsam: error: ")
    assert all(word in done.stderr for word in words)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("apps", ["--state", "FAILED"]), ("events", ["--name", "x"]), ("queues", ["--wf", "x"])],
)
def test_options_that_a_kind_has_not_are_refused(campaign, kind, options):
    done = campaign("ls", kind, *options)
    assert done.returncode == 2
    assert f"`ls {kind}` has no {options[0]}" in done.stderr


# JSON ------------------------------------------------------------------------------------


def test_job_json(campaign):
    found = records(campaign("ls", "jobs", "--json"))
    assert [record["id"] for record in found] == list(range(1, 12))
    for record in found:
        assert record.keys() >= JOB_KEYS
        assert ISO.fullmatch(record["created_at"])
    grain, broken, child = found[2], found[5], found[7]
    assert grain["args"] == "hello 2"
    assert grain["tags"] == {"size": "2"}
    assert grain["data"] == {"energy": 2}
    assert (grain["exit_code"], broken["exit_code"]) == (0, 3)
    assert child["parents"] == [7]
    assert re.fullmatch(rf".*/data/alloys/fcc/grain2_{grain['job_id'][:8]}", grain["workdir"])


def test_history_json(campaign):
    record = records(campaign("ls", "--history", "--json", "--id", "7"))[0]
    assert record["events"][-1]["to_state"] == "JOB_FINISHED"


# other kinds -----------------------------------------------------------------------------


def test_apps(campaign):
    lines = campaign("ls", "apps").stdout.splitlines()
    assert [word.strip() for word in lines[0].split("|")] == [
        *("id", "name", "executable", "description")
    ]
    assert "/bin/echo" in lines[2]
    assert "says its arguments" in lines[2]
    assert [app["name"] for app in records(campaign("ls", "apps", "--json"))] == ["say", "fail"]
    for selector in (["--id", "2"], ["--name", "FAI"], ["--filter", "name=fail"]):
        assert names(campaign("ls", "apps", "--json", *selector)) == ["fail"]
    assert "postprocess:" in campaign("ls", "apps", "--verbose").stdout
    assert campaign("ls", "apps", "--id", "x").returncode == 2


def test_workflows(campaign):
    out = campaign("ls", "wf").stdout
    assert re.search(r"^alloys/fcc \| 5 +\| 5 JOB_FINISHED$", out, re.MULTILINE)
    found = records(campaign("ls", "wf", "--json"))
    assert {"workflow": "alloys/bcc", "jobs": 1, "by_state": {"FAILED": 1}} in found
    for option in ("--name", "--wf"):
        selected = records(campaign("ls", "wf", "--json", option, "alloys"))
        assert [record["workflow"] for record in selected] == ["alloys/bcc", "alloys/fcc"]
    assert campaign("ls", "wf", "--wf", "tree", "--tree").stdout.splitlines() == [
        "tree",
        "  7 parent [tree] JOB_FINISHED",
        "  |   8 child [tree] JOB_FINISHED",
    ]
    assert "    JOB_FINISHED  5\n" in campaign("ls", "wf", "--verbose").stdout


def test_events(campaign):
    found = records(campaign("ls", "events", "--json"))
    assert all(
        record.keys() >= {"time", "job_id", "from_state", "to_state", "message"} for record in found
    )
    assert all(ISO.fullmatch(record["time"]) for record in found)
    broken = records(campaign("ls", "events", "--json", "--id", "6"))
    assert {record["job"] for record in broken} == {6}
    assert [record["to_state"] for record in broken][-1] == "FAILED"
    ends = records(campaign("ls", "events", "--json", "--state", "JOB_FINISHED", "--wf", "tree"))
    assert [record["job"] for record in ends] == [7, 8]
    last = records(campaign("ls", "events", "--json", "--limit", "2"))
    assert last == found[-2:]
    done = campaign("ls", "events", "--limit", "2")
    assert len(done.stdout.splitlines()) == 2 + 2
    assert "only 2 are shown" in done.stderr
    assert (
        records(campaign("ls", "events", "--json", "--filter", "job=1", "--order", "-id"))[0][
            "to_state"
        ]
        == "JOB_FINISHED"
    )
