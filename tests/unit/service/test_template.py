"""Templates of scripts: what is wrong with them, and what comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from balsam.errors import InvalidInput
from balsam.service import template
from balsam.service.template import VARIABLES, Words

START = "#!/bin/bash\n"
END = "exec {{ launcher }}\n"


def values(**given: Any) -> dict[str, Any]:
    texts: dict[str, Any] = {name: name for name in VARIABLES}
    ready = {name: Words(f"{name} words") for name in ("launcher", "directives", "environment")}
    return texts | ready | {"nodes": 2, "time_minutes": 30, "batch_job": 7} | given


def rendered(text: str, **given: Any) -> str:
    """Return what comes out of *text* between the first and the last line."""
    out = template.check(f"{START}{text}\n{END}", "T").render(values(**given))
    assert out.startswith(START)
    assert out.endswith("\nexec launcher words\n")
    return out.removeprefix(START).removesuffix("\nexec launcher words\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{START}{{{{ queue }}\n{END}", r"T, line 2: unexpected '}'"),
        (f"{START}\n{{% if queue %}}\n{END}", r"T, line \d: .*'endif'"),
        (f"{START}{{{{ queue | nope }}}}\n{END}", "T, line 2: No filter named 'nope'"),
        (f"{START}\n\n{{{{ que }}}}\n{END}", r"T, line 4: .* 'que'\. Did you mean 'queue'\?"),
        (f"{START}{{{{ num_nodes }}}}\n{END}", "line 2: .*Did you mean 'nodes'"),
        ("echo\n" + END, "T, line 1: .*#!/bin/bash"),
        ("", "T, line 1: .*#!/bin/bash"),
        (f"{START}echo launcher\n", r"T starts no launcher: .*exec \{\{ launcher \}\}"),
        (f"{START}# balsam launcher\n", "T starts no launcher"),
    ],
)
def test_what_is_wrong_with_a_template(text: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told) as raised:
        template.check(text, "T")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "command",
    [
        "balsam launcher --{{ wf_filter }}",
        "{{ balsam_bin }}/balsam launcher --{{ wf_filter }}",
        "{{ python }} -m balsam.cli.main launcher --{{ wf_filter }}",
        "srun -n 1 {{ launcher }}",
    ],
)
def test_a_launcher_of_the_users_own(command: str) -> None:
    template.check(START + command, "T")


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("queue - 2", "T, line 3: unsupported operand"),
        ("nodes // 0", "T, line 3: .*zero"),
        ("nodes.count", "T, line 3: .*no attribute 'count'"),
        ("[1][nodes]", "T, line 3: "),
    ],
)
def test_an_expression_that_fails(expression: str, told: str) -> None:
    checked = template.check(f"{START}\n{{{{ {expression} }}}}\n{END}", "T")
    with pytest.raises(InvalidInput, match=told):
        checked.render(values())


def test_numbers_are_numbers() -> None:
    assert rendered("{{ time_minutes-2 }} {{ nodes * 2 }}") == "28 4"


def test_plain_values_are_as_in_0x() -> None:
    text = "#COBALT -q {{ queue }}\nmodule load {{ project }}/{{ name }}"
    assert rendered(text) == "#COBALT -q queue\nmodule load project/name"


def test_no_value_is_an_empty_word() -> None:
    assert rendered("#X {{ queue }}\na {{ queue }} '{{ queue }}'", queue="") == "#X \na '' ''"


def test_texts_of_the_template_itself_are_syntax() -> None:
    text = '{{ "&" }} {{ "#X -l a" if queue == "debug" else "; true" }} {{ queue ~ ";" }}'
    assert rendered(text, queue="debug") == "& #X -l a debug;"  # it stands in a comment by then
    assert rendered(text, queue="other") == "& ; true 'other;'"


def test_loops_and_conditions() -> None:
    text = (
        "{% for n in range(nodes) %}run --offset={{ n }} -q {{ queue }} {{ '&' }}\n{% endfor %}wait"
    )
    assert rendered(text, queue="a b").splitlines() == [
        "run --offset=0 -q 'a b' &",
        "run --offset=1 -q 'a b' &",
        "wait",
    ]


def test_values_in_macros_and_blocks() -> None:
    text = "{% macro q(x) %}-q {{ x }}{% endmacro %}{% set y %}[{{ queue }}]{% endset %}"
    assert rendered(text + "{{ q(queue) }} {{ y }}", queue="a;b") == "-q 'a;b' ['a;b']"


def test_what_a_filter_makes_of_a_value_is_a_value() -> None:
    assert rendered("{{ queue | upper }}", queue="a;b") == "'A;B'"
    assert rendered("{{ queue | safe }}", queue="a;b") == "a;b"


def test_what_only_looks_like_a_comment() -> None:
    assert rendered("a \\ #{{ queue }} b#{{ queue }}", queue="c d") == "a \\ #'c d' b#'c d'"


@pytest.mark.parametrize(
    ("text", "out"),
    [
        ("{{ launcher }} &", "run 'a $b' &"),
        ('bash -c "{{ launcher }}"', "bash -c \"run 'a \\$b'\""),
        ("ssh h '{{ launcher }}'", "ssh h 'run '\"'\"'a $b'\"'\"''"),
        ('echo "$({{ launcher }})"', "echo \"$(run 'a $b')\""),
    ],
)
def test_where_the_launcher_stands(text: str, out: str) -> None:
    checked = template.check(START + text, "T")
    assert checked.render(values(launcher=Words("run 'a $b'"))) == START + out


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("ssh h <<END\n{{ launcher }}\nEND", "inside a here-document"),
        ("x=`{{ launcher }}`", "inside backquotes"),
        ("x=${y:-{{ launcher }}}", r"inside \$\{ \}"),
        ("\\{{ launcher }}", r"after '\\\\'"),
    ],
)
def test_where_the_launcher_cannot_stand(text: str, where: str) -> None:
    checked = template.check(START + text, "T")
    with pytest.raises(InvalidInput, match=where):
        checked.render(values(launcher=Words("run 'a $b'")))


def test_texts_of_the_template_itself_in_quotes() -> None:
    assert rendered("\"{{ '$HOME' }} {{ queue }}\"", queue="$HOME") == '"$HOME \\$HOME"'


def test_a_nul_is_refused() -> None:
    with pytest.raises(InvalidInput, match="queue has a NUL"):
        rendered("{{ queue }}", queue="a\0b")


def test_lines_in_a_comment() -> None:
    with pytest.raises(InvalidInput, match="line 2 of the script, in a comment"):
        rendered("# {{ queue }}", queue="a\nreboot")
    with pytest.raises(InvalidInput, match="line 2 of the script, in a comment"):
        rendered("# {{ sched_flags }}", sched_flags=Words("'a\nreboot'"))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("echo $(ls {{ queue }})", r"inside \$\( \)"),
        ('echo "$(ls {{ queue }})"', r"inside \$\( \)"),
        ('echo "$(ls "{{ queue }}")"', r"inside \$\( \)"),
        ("echo `ls {{ queue }}`", "inside backquotes"),
        ('echo "`ls {{ queue }}`"', "inside backquotes"),
        ("echo ${x:-{{ queue }}}", r"inside \$\{ \}"),
        ("echo $(( {{ queue }} ))", r"inside \(\( \)\)"),
        ("(( x = {{ queue }} ))", r"inside \(\( \)\)"),
        ("echo $'{{ queue }}'", r"inside \$' '"),
        ("echo \\{{ queue }}", r"after '\\\\'"),
        ("echo ${{ queue }}", r"after '\$'"),
        ("cat <<END\n{{ queue }}\nEND", "inside a here-document"),
        ("cat <<-'END' | sort\n{{ queue }}\n\tEND", "inside a here-document"),
        ("cat <<A <<B\nA\n{{ queue }}\nB", "inside a here-document"),
    ],
)
def test_where_only_plain_values_can_stand(text: str, where: str) -> None:
    assert rendered(text, queue="plain-1.2/x") == text.replace("{{ queue }}", "plain-1.2/x")
    with pytest.raises(InvalidInput, match=where):
        rendered(text, queue="a b")


@pytest.mark.parametrize(
    "before",
    [
        "cat <<END\nit's\nEND\n",
        "cat <<<word\n",
        "echo $(ls) `ls` ${x#y} $(( (1 + 2) )) $# \"$(ls '(')\" \n",
        "# it's a comment\n",
        "echo a#b 'it' \"isn't\" \\' $'\\''\n",
        "(( x = 1 ))\n",
        "a=(1 2); f() { true; }; case x in a) ;; esac\n",
        "if [ 1 -lt 2 ]; then (true; true); fi\n",
        'echo "${x:-"a b"}" # done\n',
    ],
)
def test_what_ends_is_over(before: str) -> None:
    assert rendered(before + "echo {{ queue }}", queue="a'b") == before + "echo 'a'\"'\"'b'"


def test_the_sites_own_template(tmp_path: Path) -> None:
    (tmp_path / "job-template.sh").write_text(f"{START}{{{{ quue }}}}\n{END}")
    with pytest.raises(InvalidInput, match=f"{tmp_path}/job-template.sh, line 2: .*'queue'"):
        template.load(tmp_path)


def test_the_shipped_template(tmp_path: Path) -> None:
    out = template.load(tmp_path).render(values())
    lines = out.splitlines()
    assert lines[:2] == ["#!/bin/bash", "directives words"]
    assert lines[-1] == "exec launcher words"
    assert template.check(template.default_text(), "T").render(values()) == out


def test_a_template_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "job-template.sh").write_bytes(b"#!/bin/sh\n\xff")
    with pytest.raises(InvalidInput, match=f"cannot read the template {tmp_path}/job-template.sh"):
        template.load(tmp_path)
