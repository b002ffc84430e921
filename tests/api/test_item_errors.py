"""The errors of a job as one CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import httpx
import pytest

from tests.support.asgi import InProcess, in_process
from tests.support.jobs import finish, submitted
from unstuck.api import item_errors
from unstuck.jobs.job import JobError
from unstuck.store.sqlite import SQLiteStore

TOTAL, FAILED = 3_100, 3_039
#: What spreadsheets would run, and what only resembles it.
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠1"]
PLAIN = ["a=1", " =1", '"=1"', "1-1", "'=1"]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with in_process(data=str(tmp_path_factory.mktemp("errors")), workers=1) as running:
        yield running


def get(app: InProcess, path: str) -> httpx.Response:
    async def whole() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app.app), base_url="http://localhost") as http:
            return await http.get(path)

    return app.run(whole())


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_all_errors_are_one_file_before_the_end_and_whole(app: InProcess) -> None:
    long = "line one\n\tline “two”, with a comma\n" + "x" * 2_400
    order = {"kind": "imp=ort", "external": True, "items": [f"{n}.csv" for n in range(TOTAL)]}
    path = app.post("/api/jobs", order).json()["links"]["self"]
    for first in range(0, FAILED, 1_000):
        some = range(first, min(first + 1_000, FAILED))
        report = {"items": [{"index": n, "state": "failed", "error": long if n == 7 else f"no {n}"} for n in some]}
        assert app.post(f"{path}/progress", report).status == 200
    answer = get(app, f"{path}/errors")
    assert answer.headers["content-type"].startswith("text/csv")
    assert 'attachment; filename="imp_ort-' in answer.headers["content-disposition"]
    rows = rows_of(answer.text)
    assert [row["index"] for row in rows] == [str(n) for n in range(FAILED)]
    assert (rows[7]["name"], rows[7]["message"]) == ("7.csv", long)
    assert rows[3_038]["message"] == "no 3038"
    assert rows[0]["code"] == "failed"
    assert rows[0]["finished_at"]


def test_no_text_becomes_a_formula(app: InProcess) -> None:
    texts = [*FORMULAS, *PLAIN]
    path = app.post("/api/jobs", {"kind": "x", "external": True, "items": texts}).json()["links"]["self"]
    report = {"items": [{"index": n, "state": "failed", "error": text} for n, text in enumerate(texts)]}
    assert app.post(f"{path}/progress", report).status == 200
    rows = rows_of(get(app, f"{path}/errors").text)
    expected = [*(f"'{text}" for text in FORMULAS), *PLAIN]
    assert [row["message"] for row in rows] == expected
    assert [row["name"] for row in rows] == expected


def test_a_job_without_errors_has_only_the_header(app: InProcess) -> None:
    path = app.post("/api/jobs", {"kind": "x", "external": True}).json()["links"]["self"]
    assert get(app, f"{path}/errors").text.splitlines() == [",".join(item_errors.COLUMNS)]
    assert get(app, "/api/jobs/1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b/errors").status_code == 404


async def test_a_job_that_is_removed_meanwhile_is_named(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_errors, "PAGE_ITEMS", 1)
    job_id = await submitted(store, 3, max_attempts=1)
    error = JobError("exception", "no")
    await store.apply([finish(claimed, "failed", error) for claimed in await store.claim(3, 30.0)])
    lines = item_errors._lines(store, job_id)
    sent = await anext(lines) + await anext(lines)
    await store.remove(job_id)
    rows = rows_of(sent + "".join([line async for line in lines]))
    assert [(row["index"], row["code"]) for row in rows] == [("0", "exception"), ("", "job_not_found")]
    assert "from item 1 on" in rows[1]["message"]
