"""Declarations of kinds, and the errors for mistakes in them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, Protocol, cast

import pytest
from msgspec import Meta

import unstuck
from unstuck.api.context import Services
from unstuck.api.submission import check_kind
from unstuck.app import _log_unknown_kinds
from unstuck.errors import UnknownKind
from unstuck.kinds import Option
from unstuck.kinds.declare import declared, describe

Width = Annotated[int, Meta(ge=1, le=8192, description="In pixels")]


@unstuck.kind("every-option", accept="image/*")
def every_option(
    file: Path,
    report: unstuck.Report,
    *,
    count: int,
    share: float = 0.5,
    careful: bool = True,
    label: str = "",
    mode: Literal["fast", "good"] = "good",
    level: Literal[1, 2] = 2,
    limit: int | None = None,
    width: Width = 800,
    height: Width | None = None,
    depth: Annotated[int | None, Meta(ge=0)] = None,
) -> None:
    """Takes everything.

    And says more below.
    """


def test_options_come_from_the_annotations() -> None:
    assert declared["every-option"].info.options == (
        Option(name="count", type="integer", required=True),
        Option(name="share", type="number", default=0.5),
        Option(name="careful", type="boolean", default=True),
        Option(name="label", type="text", default=""),
        Option(name="mode", type="choice", choices=("fast", "good"), default="good"),
        Option(name="level", type="choice", choices=(1, 2), default=2),
        Option(name="limit", type="integer", nullable=True),
        Option(name="width", type="integer", default=800, minimum=1, maximum=8192, description="In pixels"),
        Option(name="height", type="integer", nullable=True, minimum=1, maximum=8192, description="In pixels"),
        Option(name="depth", type="integer", nullable=True, minimum=0),
    )


def test_title_and_description_come_from_the_function() -> None:
    info = declared["every-option"].info
    assert (info.name, info.title, info.description) == ("every-option", "Every option", "Takes everything.")
    assert (info.accept, info.needs_file) == ("image/*", True)


def test_the_function_stays_a_function(tmp_path: Path) -> None:
    assert every_option(tmp_path, unstuck.Report("a", tmp_path), count=1) is None


def test_a_wrapped_function_keeps_its_options() -> None:
    @functools.wraps(every_option)
    def wrapped(*args: Any, **kwargs: Any) -> object:
        return every_option(*args, **kwargs)

    assert len(describe("wrapped", wrapped, "", None, "", True).options) == 10


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match=r"already a kind 'every-option' \(.*every_option\): choose another"):
        unstuck.kind("every-option")(_plain)


def test_limits_and_transient_failures() -> None:
    @unstuck.kind("limited", limit_s=60, transient=(ConnectionError, TimeoutError))
    def limited(file: Path, report: unstuck.Report) -> None: ...

    assert declared["limited"].info.limit_s == 60
    assert declared["limited"].transient == (ConnectionError, TimeoutError)
    assert declared["every-option"].info.limit_s is None
    assert declared["every-option"].transient == ()


@pytest.mark.parametrize("limit_s", [0, -1, True, "60", float("nan"), float("inf")])
def test_a_limit_is_a_number_of_seconds(limit_s: Any) -> None:
    with pytest.raises(TypeError, match="limit_s must be a number of seconds above 0"):
        unstuck.kind("mistaken", limit_s=limit_s)(every_option)


@pytest.mark.parametrize("transient", [5, "TimeoutError", (OSError, "x"), [OSError], KeyboardInterrupt, OSError()])
def test_passing_failures_are_exceptions(transient: Any) -> None:
    with pytest.raises(TypeError, match="transient must be exceptions"):
        unstuck.kind("mistaken", transient=transient)(every_option)
    assert "mistaken" not in declared


@pytest.mark.parametrize("name", ["", "Resize", "re_size", "ré", "a" * 41, "a/b", "a\n"])
def test_a_name_has_a_form(name: Any) -> None:
    with pytest.raises(ValueError, match="must be 1 to 40 characters from a-z, 0-9 and -"):
        unstuck.kind(name)(_plain)


@pytest.fixture
def forget() -> Iterator[None]:
    """Forget what the test declares."""
    before = dict(declared)
    yield
    declared.clear()
    declared.update(before)


@pytest.mark.usefixtures("forget")
def test_the_name_may_come_from_the_function() -> None:
    """Without parentheses, and without a name in them."""

    @unstuck.kind
    def count_words(file: Path, report: unstuck.Report, *, longest: int = 3) -> int:
        """Count words."""
        return longest

    @unstuck.kind(title="Lines", needs_file=False)
    def _count_Lines_2(file: Path | None, report: unstuck.Report) -> None: ...

    assert count_words(Path(), unstuck.Report("a", Path()), longest=5) == 5
    info = declared["count-words"].info
    assert (info.title, info.description, [option.name for option in info.options]) == (
        "Count words", "Count words.", ["longest"],
    )  # fmt: skip
    assert declared["count-lines-2"].info.title == "Lines"
    with pytest.raises(ValueError, match="already a kind 'count-words'"):
        unstuck.kind(count_words)


class Callback(Protocol):
    def __call__(self, done: float | None) -> None: ...


@pytest.mark.usefixtures("forget")
def test_what_can_take_a_file_and_a_report() -> None:
    """Hints decide if there are any; a name of one's own is fine."""

    def plain(path, bar): ...  # type: ignore[no-untyped-def]
    def defaults(file: Path | None = None, report: unstuck.Report | None = None) -> None: ...
    def broad(file: os.PathLike[str], report: Callable[..., None]) -> None: ...
    def broader(file: object, report: Any) -> None: ...
    def nothing(file: None, report: unstuck.Report) -> None: ...
    def protocol(file: Annotated[Path, "a photo"], report: Callback) -> None: ...

    for work in (plain, defaults, broad, broader, nothing, protocol):
        assert unstuck.kind(work) is work


def _plain(file: Path, report: unstuck.Report) -> None: ...
def _mails(to: str, subject: str) -> None: ...
def _other_types(file: Path, width: int, *, fast: bool = True) -> None: ...
def _swapped(report: unstuck.Report, file: Path) -> None: ...
def _option_second(file, width=100): ...  # type: ignore[no-untyped-def]
def _no_report(file: Path) -> None: ...
def _keyword_report(file: Path, *, report: unstuck.Report) -> None: ...
def _untyped(file: Path, report: unstuck.Report, *, width=1) -> None: ...  # type: ignore[no-untyped-def]
def _swallows(file: Path, report: unstuck.Report, **options: int) -> None: ...
def _list(file: Path, report: unstuck.Report, *, sizes: list[int]) -> None: ...
def _either(file: Path, report: unstuck.Report, *, size: int | str) -> None: ...
def _only_none(file: Path, report: unstuck.Report, *, size: None) -> None: ...
def _odd_choice(file: Path, report: unstuck.Report, *, size: Literal[True, "x"]) -> None: ...
def _bad_default(file: Path, report: unstuck.Report, *, width: Width = 0) -> None: ...
def _none_default(file: Path, report: unstuck.Report, *, width: int = None) -> None: ...  # type: ignore[assignment] # noqa: RUF013
def _pattern(file: Path, report: unstuck.Report, *, x: Annotated[str, Meta(pattern="a")]) -> None: ...
def _open_bound(file: Path, report: unstuck.Report, *, x: Annotated[int, Meta(gt=0)]) -> None: ...
def _bounded_text(file: Path, report: unstuck.Report, *, x: Annotated[str, Meta(ge=1)]) -> None: ...
def _other_meta(file: Path, report: unstuck.Report, *, x: Annotated[int, "in pixels"]) -> None: ...
def _unknown_name(file: Path, report: unstuck.Report, *, x: Wdith) -> None: ...  # type: ignore[name-defined] # noqa: F821
async def _coroutine(file: Path, report: unstuck.Report) -> None: ...
def _generator(file: Path, report: unstuck.Report) -> Any:
    yield


class Methods:
    def work(self, file: Path, report: unstuck.Report) -> None: ...


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (_mails, r"mails\(file: Path, report: unstuck.Report, \*, to: 'str', subject: 'str'\)"),
        (_other_types, r"takes \(file, report\), and then .*width: 'int', fast: 'bool' = True\)"),
        (_swapped, r"takes \(file, report\)"),
        (_option_second, r"report: unstuck.Report, \*, width=100\)"),
        (lambda file, report: None, "is a lambda: give it a name"),
        (staticmethod(_plain), "is a staticmethod: put @kind"),
        (Methods.work, "is a method: put @kind"),
        (functools.partial(_plain), "is not a function"),
        (_no_report, r"takes \(file, report\)"),
        (_keyword_report, r"takes \(file, report\)"),
        (_untyped, "option 'width' needs a type, for example width: int"),
        (_swallows, "name each option instead of taking"),
        (_list, "list is not supported; use int, float"),
        (_either, "is not supported; use int, float"),
        (_only_none, "NoneType is not supported"),
        (_odd_choice, "must be strings or integers"),
        (_bad_default, "default is not allowed: width must be an integer between 1 and 8192, not 0"),
        (_none_default, "default is not allowed: width must be an integer, not null"),
        (_pattern, "only ge, le and description can be used, not pattern"),
        (_open_bound, "only ge, le and description can be used, not gt"),
        (_bounded_text, "only numbers can have bounds"),
        (_other_meta, "takes a msgspec.Meta"),
        (_unknown_name, "an annotation cannot be resolved: name 'Wdith' is not defined"),
        (_coroutine, "a kind must be a plain function"),
        (_generator, "a kind must be a plain function"),
        (print, "is not a function"),
        (Path, "is not a function"),
        (None, "is not a function"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_mistake_raises_at_the_definition(work: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        unstuck.kind("mistaken")(work)
    if work is not None:
        with pytest.raises(TypeError, match=message):
            unstuck.kind(work)  # without parentheses
    assert "mistaken" not in declared


@pytest.mark.usefixtures("forget")
def test_a_kind_that_only_the_server_has_declared_is_refused_with_the_cure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Such as one beside `create_app()`, in the module of the host app: workers load UNSTUCK_APP alone."""
    unstuck.kind("beside-the-app")(_plain)
    services = cast(Services, SimpleNamespace(kinds={}))
    with pytest.raises(
        UnknownKind, match=r"its workers do not know it: set UNSTUCK_APP=tests\.kinds\.test_declare"
    ):
        check_kind("beside-the-app", {}, services)
    with pytest.raises(UnknownKind, match="There is no kind of work 'unheard-of' here"):
        check_kind("unheard-of", {}, services)
    _log_unknown_kinds({name: one.info for name, one in declared.items() if name != "beside-the-app"})
    (record,) = caplog.records
    assert record.getMessage().endswith("kind=beside-the-app module=tests.kinds.test_declare")


def test_units_are_nouns() -> None:
    def work(file: Path, report: unstuck.Report) -> None: ...

    unstuck.kind("with-unit", unit="batch")(work)
    unstuck.kind("with-units", unit="child", units="children")(work)
    infos = [declared[name].info for name in ("every-option", "with-unit", "with-units")]
    assert [(info.unit, info.units) for info in infos] == [("", ""), ("batch", "batches"), ("child", "children")]
    for wrong in ({"units": "rows"}, {"unit": "x" * 41}, {"unit": "a\n"}, {"unit": 1}):
        with pytest.raises(TypeError, match="unit"):
            unstuck.kind("wrong", **wrong)(work)
