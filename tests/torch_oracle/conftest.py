"""Adds up what was compared, and says it at the end."""

import collections

import pytest

COUNTS = "compared with PyTorch"


@pytest.fixture
def tally(record_property):
    """A counter of outcomes of one test; the summary adds them up over all tests (and processes)."""
    counter = collections.Counter()
    yield counter
    record_property(COUNTS, dict(counter))


def pytest_terminal_summary(terminalreporter):
    """One line for each op: how many samples were compared, in which order, and why the others were not."""
    rows, total = {}, collections.Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, counts in getattr(report, "user_properties", ()):
                if name == COUNTS and report.when == "teardown":
                    row = rows.setdefault(report.nodeid.partition("[")[2].rpartition("]")[0] or report.nodeid, collections.Counter())
                    row.update(counts), total.update(counts)
    if not rows:
        return
    terminalreporter.section("compared with PyTorch")
    for name, row in sorted(rows.items()):
        terminalreporter.write_line(f"{name}: " + ", ".join(f"{n} {what}" for what, n in sorted(row.items(), key=lambda item: -item[1])))
    samples = sum(n for what, n in total.items() if not what.startswith("agreed"))
    same = sum(n for what, n in total.items() if what.startswith("order"))
    skipped = samples - same - total["different"]
    terminalreporter.write_line(f"{len(rows)} tests, {samples} samples: {same} compared, {total['different']} different, {skipped} skipped")
