"""What ``scale.py`` found as a table: how seconds and memory grow, before and after."""

import math

from scale_verbs import SHUFFLES, VERBS

LABELS = ("before", "after")
# Growth below this, or this share of the smallest size's seconds, is the machine's noise.
NOTICED_S, NOTICED_SHARE = 0.15, 0.2
# Sizes that are compared are so many times apart: noise would be most of a smaller difference.
APART = 3


def ran(cells: dict[str, dict]) -> list[dict]:
    """Return the cells that were measured to the end, by size."""
    found = [cell for cell in cells.values() if "cpu_s" in cell and "error" not in cell]
    return sorted(found, key=lambda cell: cell["n"])


def exponent(cells: dict[str, dict]) -> float | None:
    """Return p of seconds = a + b n^p; see scale.py's text.

    >>> cells = {str(n): {"n": n, "cpu_s": 2 + n / 100} for n in (100, 1000, 10_000)}
    >>> exponent(cells)
    1.0
    """
    found = [(cell["n"], cell["cpu_s"]) for cell in ran(cells)]
    if len(found) < 3:
        return None
    (n0, t0), (n1, t1) = found[:2]
    if found[-1][1] - t0 < max(NOTICED_S, NOTICED_SHARE * t0):
        return None
    constant = min(max(t0 - (t1 - t0) / (n1 - n0) * n0, 0.0), t0)
    n2, t2 = found[-1]
    n1, t1 = next((n, t) for n, t in reversed(found[:-1]) if n <= n2 / APART or n == found[0][0])
    first, second = (max(seconds - constant, NOTICED_S) for seconds in (t1, t2))
    return round(math.log(second / first) / math.log(n2 / n1), 2)


def per_thousand(cells: dict[str, dict]) -> float | None:
    """Return the MB per 1,000 recordings by which the largest size exceeds the smallest."""
    found = ran(cells)
    if len(found) < 2:
        return None
    grown = found[-1]["peak_mb"] - found[0]["peak_mb"]
    return round(1000 * grown / (found[-1]["n"] - found[0]["n"]), 1)


def text_of(cell: dict) -> str:
    """Return a cell of the table."""
    if "skipped" in cell:
        return "too long"
    if "error" in cell and "cpu_s" not in cell:
        return "killed" if cell["error"].startswith("killed") else "failed"
    failed = "failed: " if "error" in cell else ""
    return f"{failed}{cell['cpu_s']:.2f} s, {cell['peak_mb']:,.0f} MB, {cell['open_files']}"


def table(results: dict) -> str:
    """Return all results as Markdown, before and after side by side."""
    labels = [label for label in LABELS if label in results]
    verbs = [v for v in VERBS if any(v in results[label]["verbs"] for label in labels)]
    rows = {(v, label): results[label]["verbs"].get(v) for v in verbs for label in labels}
    sizes = sorted({int(n) for row in rows.values() if row for n in row["sizes"]})
    lines = [
        "# Time, memory and open files by the number of recordings",
        "",
        "CPU seconds, peak memory and most open files of each verb; made by `benchmarks/scale.py`, "
        "which says what is measured. `compare` and `the last run` have a tenth as many runs, "
        "`stage` a tenth as many files.",
        "",
        f"| verb | | {' | '.join(f'{n:,}' for n in sizes)} | exponent | MB per 1,000 |",
        "|---|---|" + "---|" * (len(sizes) + 2),
    ]
    said = []
    for (verb, label), row in rows.items():
        if row is None:
            continue
        cells = [row["sizes"].get(str(n)) for n in sizes]
        shown = ["" if cell is None else text_of(cell) for cell in cells]
        grown = ["–" if row[key] is None else row[key] for key in ("exponent", "mb_per_1000")]
        lines.append(f"| {verb} | {label} | {' | '.join(map(str, [*shown, *grown]))} |")
        for n, cell in zip(sizes, cells, strict=True):
            if cell and "error" in cell:
                said.append(f"- {verb}, {label}, {n:,}: {cell['error']}")
    lines += ["", "What failed, and with what:", "", *said] if said else []
    if any(results[label]["shuffle"] for label in labels):
        lines += ["", "CPU seconds to draw a batch of fine-tuning:", ""]
        lines += ["| | | first of a pass | later ones |", "|---|---|---|---|"]
    for kind in SHUFFLES:
        for label in labels:
            cell = results[label]["shuffle"].get(kind, {})
            if "first_s" in cell:
                lines.append(
                    f"| {kind} | {label} | {cell['first_s']:.3f} | {cell['later_s']:.3f} |"
                )
    for label in labels:
        about = results[label]["about"]
        lines += ["", f"{label}: commit {about['commit']}, {about['date']}, {about['machine']}, "]
        lines[-1] += f"{about['cpu_count']} cores, Python {about['python']}; at most "
        lines[-1] += f"{about['open_files']:,} open files."
    return "\n".join(lines) + "\n"
