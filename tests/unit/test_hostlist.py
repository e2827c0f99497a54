"""Lists of hosts in brackets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsam.errors import InvalidInput
from balsam.nodes.hostlist import compress, expand

WORDS = st.text("abz09-._", max_size=6)
HOSTS = st.builds(
    lambda head, word, number, tail: f"{head}{word}{number}{tail}",
    st.sampled_from("anx0"),
    WORDS,
    st.integers(0, 10**20).map(str) | st.integers(0, 120).map(lambda n: f"{n:04}"),
    WORDS,
)
RUNS = st.builds(
    lambda head, first, count, width: [f"{head}{n:0{width}}" for n in range(first, first + count)],
    st.sampled_from(["n", "nid", "x1c2n"]),
    st.integers(0, 1100),
    st.integers(0, 30),
    st.integers(1, 5),
)


@given(st.lists(HOSTS | RUNS.map(lambda run: ",".join(run) or "n"), max_size=20))
def test_what_is_compressed_expands_to_the_same_hosts(texts: list[str]) -> None:
    hosts = tuple(host for text in texts for host in text.split(","))
    if hosts:
        assert expand(compress(hosts)) == hosts


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("node1", "node1"),
        ("a,b.c-d,e_1", "a b.c-d e_1"),
        ("nid[000008-000010,7]", "nid000008 nid000009 nid000010 nid7"),
        ("n[9-11]", "n9 n10 n11"),
        ("x[1-2]y[3-4]", "x1y3 x1y4 x2y3 x2y4"),
        ("x[1-2].cluster, h3", "x1.cluster x2.cluster h3"),
        ("[1-3]", "1 2 3"),
    ],
)
def test_lists_as_slurm_writes_them(text: str, hosts: str) -> None:
    assert list(expand(text)) == hosts.split()


@pytest.mark.parametrize(
    ("hosts", "text"),
    [
        (["n1", "n2", "n3", "n7"], "n[1-3,7]"),
        (["n09", "n10", "n9"], "n[09-10,9]"),
        (["login", "n1"], "login,n1"),
        (["n1", "m2", "n3"], "n1,m2,n3"),
        ([], ""),
    ],
)
def test_short_texts(hosts: list[str], text: str) -> None:
    assert compress(hosts) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has an empty name"),
        ("a,,b", "has an empty name"),
        ("n[1-2", "a bracket without its other half"),
        ("n1-2]", "a bracket without its other half"),
        ("n[[1]]", "a bracket without its other half"),
        ("n[]", r"\[\] is no list of numbers"),
        ("n[000x113]", "is no list of numbers"),
        ("n[4-1]", "4-1 counts down; write it as 1-4"),
        ("-oProxyCommand=x", "'-oProxyCommand=x' is no name of a host"),
        ("a b", "'a b' is no name of a host"),
        ("n[1-999999999]", "more than 100000 hosts"),
        ("n[1-999]m[1-999]", "more than 100000 hosts"),
    ],
)
def test_what_is_no_list_of_hosts_is_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        expand(text)
