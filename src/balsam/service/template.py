"""The template of a site's scripts for the batch system: ``SITE/job-template.sh``, in Jinja2.

Its variables are `VARIABLES`. What a value is written into is known (`quoting.py`), so templates
write ``{{ queue }}`` with quotes or without. What a filter or ``~`` makes of a value is a value,
too; ``{{ queue | safe }}`` is written as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balsam.errors import InvalidInput, nearest
from balsam.service.quoting import Script

if TYPE_CHECKING:
    from jinja2 import Environment, nodes

#: The site's own template; where there is none, the shipped one is used.
TEMPLATE_FILE = "job-template.sh"
#: What templates may use: those of Balsam 0.x first.
VARIABLES = {
    "project": "the project, or ''",
    "queue": "the queue, or ''",
    "nodes": "how many nodes (a number)",
    "time_minutes": "the walltime in minutes (a whole number)",
    "job_mode": "auto, serial or mpi",
    "wf_filter": "consume-all, or wf-filter=X: an option of the launcher without its --",
    "sched_flags": "the user's own words for the submit command",
    "balsam_bin": "the directory of the command balsam",
    "pg_bin": "the same (0.x: the directory of PostgreSQL's programs)",
    "balsam_db_path": "the site's directory",
    "directives": "the lines that tell the batch system what is asked for",
    "launcher": "the command that starts the launcher",
    "environment": "lines that restore the submitter's environment",
    "site": "the site's directory",
    "name": "the name of the request",
    "batch_job": "the id of the batch job (a number)",
    "output": "the file that the script's output goes to",
    "python": "the Python that runs Balsam",
}

_MARKED = re.compile("\0([twv])([^\0]*)\0")
_OWN_LAUNCHER = re.compile(r"^[^#\n]*\bbalsam\b.*\blauncher\b", re.MULTILINE)


class Words(str):
    """Words or lines that are ready for the shell."""


class Text(str):
    """Text of the template itself: what its author wants to stand there."""


class Template:
    """A template that was checked.

    Parameters
    ----------
    text
        The template.
    source
        What errors call it: its path.

    Raises
    ------
    InvalidInput
        Its syntax is wrong, it has a variable that there is not, it is no script, or starts no
        launcher; the message has the line.
    """

    def __init__(self, text: str, source: str) -> None:
        from jinja2 import TemplateSyntaxError

        self._source = source
        environment = _environment()
        try:
            tree = environment.parse(text)
            names = _names(environment, tree)
            _write_literals(tree)
            self._template = environment.from_string(tree)
        except TemplateSyntaxError as error:
            raise InvalidInput(f"{source}, line {error.lineno}: {error.message}") from error
        self._check_names(names)
        if not text.startswith("#!"):
            raise InvalidInput(
                f"{source}, line 1: a script begins with the program that reads it, #!/bin/bash"
            )
        if "launcher" not in names and not _OWN_LAUNCHER.search(text):
            raise InvalidInput(
                f"{source} starts no launcher: end it with the line exec {{{{ launcher }}}}"
            )

    def _check_names(self, names: Mapping[str, int]) -> None:
        for name, line in names.items():
            if name not in VARIABLES:
                raise InvalidInput(
                    f"{self._source}, line {line}: there is no variable {name!r}."
                    f"{nearest(name, list(VARIABLES))}"
                )

    def render(self, values: Mapping[str, Any]) -> str:
        """Return the script with these *values*: of all `VARIABLES`, texts, numbers and `Words`.

        Raises
        ------
        InvalidInput
            An expression fails, or a value cannot stand where it is.
        """
        from jinja2 import TemplateError

        for name, value in values.items():
            if isinstance(value, str) and "\0" in value:
                raise InvalidInput(f"{self._source}: {name} has a NUL character: {value!r}")
        try:
            marked = self._template.render(values)
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            line = _line(error)
            raise InvalidInput(f"{self._source}{line}: {error}") from error
        script = Script(self._source)
        add = {"t": script.add_text, "w": script.add_words, "v": script.add_value}
        end = 0
        for part in _MARKED.finditer(marked):
            script.add_text(marked[end : part.start()])
            add[part[1]](part[2])
            end = part.end()
        script.add_text(marked[end:])
        return script.text


def check(text: str, source: str) -> Template:
    """Return the template of this text; see `Template` for what is wrong with it."""
    return Template(text, source)


def load(site: Path) -> Template:
    """Return the template of a site: its own, or the shipped one.

    Raises
    ------
    InvalidInput
        It cannot be read, or used.
    """
    file = site / TEMPLATE_FILE
    try:
        return Template(file.read_text(encoding="utf-8"), str(file))
    except FileNotFoundError:
        return Template(default_text(), "Balsam's own template")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read the template {file}: {error}") from error


def default_text() -> str:
    """Return the shipped template, which `balsam init` gives to each site."""
    return Path(__file__).with_name(TEMPLATE_FILE).read_text(encoding="utf-8")


def _environment() -> Environment:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined, finalize=_marked, keep_trailing_newline=True, autoescape=False
    )
    environment.filters["safe"] = Text
    return environment


def _marked(value: object) -> str:
    """Return a value so that it is found in what is rendered."""
    text = str(value)
    if "\0" in text:  # the result of a macro or a block: its values are marked already
        return text
    kind = "t" if isinstance(value, Text) else "w" if isinstance(value, Words) else "v"
    return f"\0{kind}{text}\0"


def _names(environment: Environment, tree: nodes.Template) -> dict[str, int]:
    """Return the variables that a template takes from outside, with the line of the first use."""
    from jinja2 import meta, nodes

    outside = meta.find_undeclared_variables(tree) - set(environment.globals)
    lines: dict[str, int] = {}
    for node in tree.find_all(nodes.Name):
        if node.name in outside and node.ctx == "load":
            lines.setdefault(node.name, node.lineno)
    return lines


def _write_literals(tree: nodes.Template) -> None:
    """Have texts that stand in the template itself, ``{{ "&" }}``, written as they are."""
    from jinja2 import nodes

    for output in tree.find_all(nodes.Output):
        output.nodes = [_literal(node) for node in output.nodes]


def _literal(node: nodes.Expr) -> nodes.Expr:
    from jinja2 import nodes

    if isinstance(node, nodes.CondExpr):
        node.expr1 = _literal(node.expr1)
        node.expr2 = _literal(node.expr2) if node.expr2 is not None else None
    elif isinstance(node, nodes.Const) and isinstance(node.value, str):
        return nodes.Filter(node, "safe", [], [], None, None, lineno=node.lineno)
    return node


def _line(error: BaseException) -> str:
    """Return the template's line in which an error was raised."""
    line = ""
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == "<template>":
            line = f", line {step.tb_lineno}"
        step = step.tb_next
    return line
