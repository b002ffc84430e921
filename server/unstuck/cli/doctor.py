"""`unstuck doctor URL`: has a path measured and judged, and shows it. No rule of its own.

Exit codes: 0 fine, 1 something to mend, 2 wrong usage, or no server to be reached.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from unstuck.doctor.diagnosis import Finding, Measured

SIGNS = {"ok": ("✓ ok", "green"), "attention": ("! attention", "yellow"), "bad": ("✗ bad", "bold red")}


LIVE = "Dialogs are live all the same."
WHERE = (
    "nginx: in the location that passes requests on to unstuck. Caddy: in its site; `servers` at the top of the "
    "file. Each line in place of what is said there on the same matter; then reload the proxy, and measure again."
)
LATE = "Until then dialogs end in the truth, too, but by polling: later than they could."


def doctor(
    url: Annotated[str, typer.Argument(help="Address of a server, as browsers reach it: through every proxy.")],
    seconds: Annotated[
        float, typer.Option(min=2, max=3600, help="How long to watch; 40 see two heartbeats and most idle limits.")
    ] = 40.0,
    as_json: Annotated[bool, typer.Option("--json", help="For machines: findings and measurements.")] = False,
    insecure: Annotated[bool, typer.Option(help="Do not check the certificate.")] = False,
) -> None:
    """Measure the path from here to a server, and say what to change on it."""
    out, err = Console(), Console(stderr=True)
    try:
        from unstuck.doctor import measure as measuring
    except ImportError as error:
        err.print(Text.assemble(("unstuck: ", "bold red"), f"doctor needs httpx ({error}). Install it with: "),
                  Text("pip install 'unstuck[client]'"), soft_wrap=True)  # fmt: skip
        raise typer.Exit(2) from None
    from unstuck.doctor.diagnosis import exit_code, judge

    with err.status(f"measuring the path to {url}, {seconds:.0f} s") as status:
        measured = asyncio.run(
            measuring.measure(url, seconds, insecure=insecure, say=lambda what: status.update(f"{what} …"))
        )
    findings = judge(measured)
    code = exit_code(measured, findings)
    if as_json:
        answer = {"exit_code": code, "findings": findings_as_data(findings), "measured": asdict(measured)}
        out.print_json(json.dumps(answer))
    else:
        _show(out, measured, findings, code)
    raise typer.Exit(code)


def findings_as_data(findings: Sequence[Finding]) -> list[dict[str, object]]:
    """Findings as JSON may hold them."""
    return [{"about": f.about, "level": f.level.value, "says": f.says, "mend": dict(f.mend)} for f in findings]


def _show_finding(out: Console, finding: Finding) -> None:
    sign, style = SIGNS[finding.level]
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, min_width=11)
    table.add_column(no_wrap=True, min_width=11)
    table.add_column(overflow="fold")
    table.add_row(Text(sign, style=style), Text(finding.about, style="bold"), Text(finding.says))
    out.print(table)
    for where, text in finding.mend.items():
        first, *more = text.expandtabs(4).splitlines()
        out.print(Text.assemble((f"{where:>24}  ", "dim"), (first, "cyan")), soft_wrap=True)  # to be copied whole
        for line in more:
            out.print(Text(f"{'':26}{line}", style="cyan"), soft_wrap=True)


def _show(out: Console, measured: Measured, findings: Sequence[Finding], code: int) -> None:
    out.print(Text.assemble("\nThe path from here to ", (measured.url, "bold underline"), "\n"), soft_wrap=True)
    for finding in findings:
        _show_finding(out, finding)
    if any({"nginx", "Caddy"} & finding.mend.keys() for finding in findings):
        out.print(Text(f"\n{WHERE}", style="dim"))
    troubles = [finding for finding in findings if finding.level != "ok"]
    late = any(finding.level == "bad" for finding in troubles)
    words = {
        0: ("Nothing to mend: dialogs are live on this path.", "bold green"),
        1: (f"{len(troubles)} to mend. {LATE if late else LIVE}", "bold red" if late else "bold yellow"),
        2: ("Nothing could be measured.", "bold red"),
    }
    text, style = words[code]
    out.print(Text(f"\n{text}\n", style=style))
