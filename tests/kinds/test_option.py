"""Whether options fit a kind, and what a person is told when they do not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from unstuck.kinds import InvalidOptions, KindInfo, Option, check_options

INFO = KindInfo(
    name="resize",
    title="Resize",
    options=(
        Option(name="width", type="integer", required=True, minimum=1, maximum=8192),
        Option(name="gamma", type="number", default=1.0, minimum=0),
        Option(name="upscale", type="boolean", default=False),
        Option(name="label", type="text", default=None, nullable=True),
        Option(name="format", type="choice", default="jpeg", choices=("jpeg", "png", 1)),
    ),
)


def test_defaults_are_filled_in_in_the_order_of_the_kind() -> None:
    options = check_options(INFO, {"upscale": True, "width": 10})
    assert list(options.items()) == [
        ("width", 10),
        ("gamma", 1.0),
        ("upscale", True),
        ("label", None),
        ("format", "jpeg"),
    ]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"width": 1}, 1),
        ({"width": 8192}, 8192),
        ({"width": 1, "gamma": 2}, 2.0),
        ({"width": 1, "label": None}, None),
        ({"width": 1, "label": "Zoë\u2028"}, "Zoë\u2028"),
        ({"width": 1, "format": 1}, 1),
    ],
)
def test_allowed(given: dict[str, Any], kept: object) -> None:
    name = list(given)[-1]
    value = check_options(INFO, given)[name]
    assert value == kept
    assert type(value) is type(kept)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"width": "wide"}, "width must be an integer between 1 and 8192, not 'wide'"),
        ({"width": 0}, "width must be an integer between 1 and 8192, not 0"),
        ({"width": 8193}, "width must be an integer between 1 and 8192, not 8193"),
        ({"width": True}, "width must be an integer between 1 and 8192, not true"),
        ({"width": 1.0}, "width must be an integer between 1 and 8192, not 1.0"),
        ({"width": None}, "width must be an integer between 1 and 8192, not null"),
        ({"width": 10**5000}, "width must be an integer between 1 and 8192, not a number that long"),
        ({"width": 1, "gamma": -1}, "gamma must be a number of at least 0, not -1.0"),
        ({"width": 1, "gamma": float("nan")}, "gamma must be a number of at least 0, not nan"),
        ({"width": 1, "gamma": 10**400}, "gamma must be a number of at least 0, not a number that long"),
        ({"width": 1, "gamma": False}, "gamma must be a number of at least 0, not false"),
        ({"width": 1, "upscale": 1}, "upscale must be true or false, not 1"),
        ({"width": 1, "upscale": "true"}, "upscale must be true or false, not 'true'"),
        ({"width": 1, "label": 5}, "label must be text of at most 10000 characters or null, not 5"),
        ({"width": 1, "label": "\ud800"}, "label must be text of at most 10000 characters or null, not '\\ud800'"),
        ({"width": 1, "format": "gif"}, "format must be one of 'jpeg', 'png', 1, not 'gif'"),
        ({"width": 1, "format": True}, "format must be one of 'jpeg', 'png', 1, not true"),
        ({"width": 1, "format": []}, "format must be one of 'jpeg', 'png', 1, not []"),
        ({}, "width is missing: give an integer between 1 and 8192"),
        ({"widht": 1}, "unknown option 'widht'; resize has width, gamma, upscale, label, format"),
        ([], "options must be a JSON object such as {}, not []"),
        (None, "options must be a JSON object such as {}, not null"),
        ("{}", "options must be a JSON object such as {}, not '{}'"),
    ],
)
def test_refused(given: object, message: str) -> None:
    with pytest.raises(InvalidOptions) as refused:
        check_options(INFO, given)
    assert str(refused.value) == message


def test_a_kind_without_options_says_so() -> None:
    with pytest.raises(InvalidOptions, match="unknown option 'x'; plain has no options"):
        check_options(KindInfo(name="plain", title="Plain"), {"x": 1})


def test_a_long_value_is_not_repeated_whole() -> None:
    with pytest.raises(InvalidOptions) as refused:
        check_options(INFO, {"width": "x" * 100_000})
    assert len(str(refused.value)) < 120


def test_descriptions_survive_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(INFO), type=KindInfo) == INFO
