"""Labels of any text become harmless file names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unstuck.jobs.labels import LONGEST, counted, harmless, plural, stem, unpackable


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("a.csv", "a.csv"),
        ("holiday 1.JPG", "holiday_1.JPG"),
        ("Zürich 東京.png", "Zürich_東京.png"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\x.exe", "x.exe"),
        ("-rf", "rf"),
        (".hidden", "hidden"),
        ("...", "file"),
        ("", "file"),
        ("dir/", "file"),
        ("a\0b\nc", "a_b_c"),
        ("$(reboot);`x`|y", "__reboot___x__y"),
        ("\u202egnp.exe", "_gnp.exe"),
        ("{input}", "_input_"),
        ("con", "_con"),
        ("NUL.txt", "_NUL.txt"),
        ("x" * 300 + ".csv", "x" * 116 + ".csv"),
    ],
)
def test_examples(name: str, kept: str) -> None:
    assert harmless(name) == kept


@given(st.text(max_size=400))
def test_any_text(name: str) -> None:
    kept = harmless(name)
    assert kept
    assert len(kept.encode()) <= LONGEST
    assert kept[0] not in "-."
    assert all(character.isalnum() or character in "._-" for character in kept)
    assert harmless(kept) == kept
    assert stem(name)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("my photo (1).jpg", "my photo (1).jpg"),
        ("Zürich – 東京 #1.png", "Zürich – 東京 #1.png"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\x.exe", "x.exe"),
        ("C:x", "C_x"),
        ('a<b>c:"d|e?f*.txt', "a_b_c__d_e_f_.txt"),
        ("a\0b\nc\u202e\ud800", "a_b_c__"),
        ("con", "_con"),
        ("Com¹.txt", "_Com¹.txt"),
        ("nul .txt", "_nul .txt"),
        ("ends. . ", "ends"),
        (".hidden", "hidden"),
        ("...", "file"),
    ],
)
def test_names_in_archives(name: str, kept: str) -> None:
    assert unpackable(name) == kept


@given(st.text(max_size=400))
def test_any_text_in_an_archive(name: str) -> None:
    kept = unpackable(name)
    assert kept
    assert len(kept.encode()) <= LONGEST
    assert kept[0] not in ". "
    assert kept[-1] not in ". "
    assert not set(kept) & set('<>:"/\\|?*')
    assert kept.isprintable()


def test_a_lone_surrogate() -> None:
    assert harmless("\ud800.csv") == "_.csv"


def test_stems() -> None:
    assert [stem(name) for name in ("a.tar.gz", "a", "a.", ".a", "x/y.mkv")] == ["a.tar", "a", "a", "a", "y"]


def test_counts_have_a_noun_in_the_right_form() -> None:
    nouns = {"row": "rows", "entry": "entries", "day": "days", "box": "boxes", "batch": "batches", "bus": "buses"}
    assert {noun: plural(noun) for noun in nouns} == nouns
    assert [counted(n, "row", "rows") for n in (0, 1, 1_204)] == ["0 rows", "1 row", "1,204 rows"]
