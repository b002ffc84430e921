"""`unstuck doctor URL`: decides how the findings about a network path are shown.

It must not know how the path is measured or judged.
See also: unstuck/doctor/measure.py and diagnosis.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from unstuck.cli.console import client_errors, err, out, plain

if TYPE_CHECKING:
    from unstuck.doctor.diagnosis import Finding, Measured

SIGNS = {"ok": ("✓ ok", "green"), "attention": ("! attention", "yellow"), "bad": ("✗ bad", "bold red")}

LIVE = "Dialogs are live nevertheless."
WHERE = (
    "nginx: write these lines into the location that passes requests on to unstuck. Caddy: write them into its "
    "site block, but `servers` into the global options at the top of the file. Replace any line on the same "
    "subject, reload the proxy, and measure again."
)
LATE = "Until they are fixed, dialogs still end up showing the truth, but late, by polling."


def doctor(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="Address of the server as browsers reach it, through every proxy.")
    ],
    seconds: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=2,
            max=3600,
            help="How long to watch, 2 to 3600; 40 is enough for two heartbeats and most idle limits.",
        ),
    ] = 40.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print findings and measurements as JSON.")] = False,
    insecure: Annotated[bool, typer.Option(help="Do not check the certificate.")] = False,
) -> None:
    """Measure the network path to a server, and say what to change.

    Finds proxies that buffer, compress or cut streams, and gives the lines to write for nginx, Caddy and others.

    Examples:
      unstuck doctor https://example.org
      unstuck doctor --seconds 90 https://example.org/progress
      unstuck doctor --json http://127.0.0.1:8765

    Exit codes:
      0    nothing to fix
      1    something to fix
      2    a mistake, or nothing could be measured
      130  interrupted with Ctrl-C
    """
    with client_errors():
        from unstuck.doctor import measure as measuring
    from unstuck.doctor.diagnosis import exit_code, judge

    with err.status(f"Measuring the path to {escape(plain(url))} for {seconds:.0f} s…") as status:
        measured = asyncio.run(
            measuring.measure(url, seconds, insecure=insecure, say=lambda step: status.update(f"{step}…"))
        )
    findings = judge(measured)
    code = exit_code(measured, findings)
    if as_json:
        answer = {"exit_code": code, "findings": findings_as_data(findings), "measured": asdict(measured)}
        out.print_json(json.dumps(answer), ensure_ascii=True)
    else:
        _show(measured, findings, code)
    raise typer.Exit(code)


def findings_as_data(findings: Sequence[Finding]) -> list[dict[str, object]]:
    """Return the findings as values that JSON can hold."""
    return [{"about": f.about, "level": f.level.value, "says": f.says, "mend": dict(f.mend)} for f in findings]


def _show_finding(finding: Finding) -> None:
    sign, style = SIGNS[finding.level]
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, min_width=11)
    table.add_column(no_wrap=True, min_width=11)
    table.add_column(overflow="fold")
    table.add_row(Text(sign, style=style), Text(finding.about, style="bold"), Text(plain(finding.says)))
    out.print(table)
    for where, text in finding.mend.items():
        first, *more = [plain(line) for line in text.expandtabs(4).splitlines()]
        out.print(
            Text.assemble((f"{where:>24}  ", "dim"), (first, "cyan")), soft_wrap=True
        )  # unbroken, for copying
        for line in more:
            out.print(Text(f"{'':26}{line}", style="cyan"), soft_wrap=True)


def _show(measured: Measured, findings: Sequence[Finding], code: int) -> None:
    out.print(
        Text.assemble("\nThe path from here to ", (plain(measured.url), "bold underline"), "\n"), soft_wrap=True
    )
    for finding in findings:
        _show_finding(finding)
    if any({"nginx", "Caddy"} & finding.mend.keys() for finding in findings):
        out.print(Text(f"\n{WHERE}", style="dim"))
    troubles = [finding for finding in findings if finding.level != "ok"]
    late = any(finding.level == "bad" for finding in troubles)
    count = f"{len(troubles)} thing{'' if len(troubles) == 1 else 's'} to fix."
    summaries = {
        0: ("Nothing to fix: dialogs are live on this path.", "bold green"),
        1: (f"{count} {LATE if late else LIVE}", "bold red" if late else "bold yellow"),
        2: ("Nothing could be measured.", "bold red"),
    }
    text, style = summaries[code]
    out.print(Text(f"\n{text}\n", style=style))
