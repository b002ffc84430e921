"""Log lines have one style, so that they can be read, searched and counted.

A line names its subject and what happened, then what follows or what to do; values come last, as `name=value`:

    Worker died, starting another: worker=4711 job=… item=3 reason=…

Reads every logging call of the server from its source. Tests of what is logged when are in each room's tests.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "server" / "unstuck"

LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
LOGGER = re.compile(r"\b_?log(ger)?$|^logging\b|getLogger\(", re.IGNORECASE)
#: Sets the levels of other packages' loggers.
SETS_UP_LOGGING = "cli/serve.py"

_PAIR = r"[a-z_]+=(?:%[-+]?(?:\.\d+)?[sdrfg]|[a-z_]+)"
STYLE = re.compile(rf"(?P<text>[A-Z][^%=]*[^%=.,:; ])(?:: {_PAIR}(?: {_PAIR})*)?")
FORBIDDEN = re.compile(
    r"\b(nobody|somebody|everybody|whoever|anybody|he|his|him|she|told|hears? of|gets? on|put up with|goes on"
    r"|is over|for good|at hand|such a|so that one|of its own|newly|yet|and the like|besides|thereby|stands in"
    r"|lies in)\b",
    re.IGNORECASE,
)
#: How the ids are named, by the last word of the argument that is one.
IDS = {"job_id": "job", "index": "item", "pid": "worker"}


def is_logging(call: ast.Call) -> bool:
    match call.func:
        case ast.Attribute(value=receiver, attr=attr):
            return attr in LEVELS and LOGGER.search(ast.unparse(receiver)) is not None
        case ast.Name(id="log_exception"):  # the worker's own, which uses no logger
            return True
    return False


def logging_calls(source: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and is_logging(node):
            yield node


def flaws(call: ast.Call) -> list[str]:
    """What is wrong with a logging call."""
    match call.args:
        case [ast.Constant(value=str(message)), *values]:
            pass
        case _:
            return ["the message is not a plain text, whose values are arguments"]
    found = STYLE.fullmatch(message)
    if found is None:
        return [f"{message!r} is not `Subject verb, what to do: name=%s name=%s`"]
    wrong = [f"{word.group()!r} is no word for a log" for word in FORBIDDEN.finditer(found["text"])]
    names = re.findall(r"([a-z_]+)=%", message)
    if isinstance(call.func, ast.Attribute) and len(names) != len(values):
        wrong.append(f"{len(names)} names for {len(values)} values")
    for name, value in zip(names, values, strict=False):
        last = ast.unparse(value).rpartition(".")[2]
        if IDS.get(last, name) != name:
            wrong.append(f"{last} is named {name!r} and not {IDS[last]!r}")
    return wrong


CALLS = [
    pytest.param(call, id=f"{path.relative_to(PACKAGE)}:{call.lineno}")
    for path in sorted(PACKAGE.rglob("*.py"))
    for call in logging_calls(path.read_text())
]


@pytest.mark.parametrize("call", CALLS)
def test_every_log_line_has_the_style(call: ast.Call) -> None:
    assert flaws(call) == []


def test_all_log_lines_are_found() -> None:
    rooms = {str(param.id).partition("/")[0].partition(".")[0] for param in CALLS}
    writing = "api app client connections files runner serve store streaming supervision webhooks"
    assert rooms == set(writing.split())
    assert len(CALLS) > 30


def test_every_logger_is_named_log() -> None:
    """Otherwise the lines above would not be all."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        loggers = [
            node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "log"
            if re.fullmatch(r"logging\.getLogger\('unstuck(\.[a-z]+)?'\)", ast.unparse(node.value))
        ]
        made = [
            node for node in ast.walk(tree) if isinstance(node, ast.Call) and "getLogger" in ast.unparse(node.func)
        ]
        if str(path.relative_to(PACKAGE)) != SETS_UP_LOGGING:
            assert made == loggers, path


@pytest.mark.parametrize(
    ("line", "flaw"),
    [
        ('log.info(f"Job {job_id} failed")', "not a plain text"),
        ('log.info("Job failed: " + job_id)', "not a plain text"),
        ('log.info("Job failed: job=%s" % job_id)', "not a plain text"),
        ('log.info("job failed: job=%s", job_id)', "Subject verb"),
        ('log.info("Job failed.")', "Subject verb"),
        ('log.info("Job failed: job=%s.", job_id)', "Subject verb"),
        ('log.info("Job %s failed", job_id)', "Subject verb"),
        ('log.info("Job failed: %s", job_id)', "Subject verb"),
        ('log.info("Job failed: job=%s, item=%d", job_id, index)', "Subject verb"),
        ('log.info("Job failed and nobody knows why: job=%s", job_id)', "'nobody' is no word"),
        ('log.info("Job failed: job=%s")', "1 names for 0 values"),
        ('log.info("Job failed: id=%s", job.job_id)', "job_id is named 'id' and not 'job'"),
        ('logging.getLogger("unstuck").info("job")', "Subject verb"),
        ('self._log.exception("job")', "Subject verb"),
        ('log_exception("item failed", error)', "Subject verb"),
    ],
)
def test_what_is_wrong_with_a_line_is_found(line: str, flaw: str) -> None:
    (call,) = logging_calls(line)
    assert any(flaw in one for one in flaws(call)), flaws(call)


def test_a_line_in_style_has_no_flaws() -> None:
    (call,) = logging_calls(
        'log.info("Worker died, starting another: worker=%d job=%s item=%d", pid, job_id, index)'
    )
    assert flaws(call) == []
