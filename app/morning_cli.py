"""`framedeck report --last`: what the last run of the queue came to."""

from __future__ import annotations

import argparse
import json

from app.report import PRINTED
from core.errors import Category, Problem, ProblemError
from core.ledger import Ledger
from core.morning.export import as_json
from core.morning.files import load, save_text
from core.morning.page import as_html
from core.morning.sheet import sheet
from core.morning.spans import find_spans
from core.morning.words import as_text
from core.places import Places


def last_run(options: argparse.Namespace) -> str:
    """Return what is printed: text, JSON or the page. A page with a name is written.

    Raises:
        ProblemError: There is no ledger, nothing has run, or it cannot be read.
        OSError: The page cannot be written.
    """
    places = Places.find(options.home)
    if not places.ledger.exists():
        raise _nothing(f"There is no list of jobs at {places.ledger}.")
    ledger = Ledger.open(places.ledger)
    try:
        spans = find_spans(ledger.store)
        if not spans:
            raise _nothing("No job has run yet.")
        report, compared = load(ledger.store, spans)
    finally:
        ledger.close()
    if options.html is not None:
        page = as_html(report, compared, sheet(report.scenes))
        if options.html == PRINTED:
            return page
        save_text(options.html, page)
    if options.json:
        return json.dumps(as_json(report, compared)) + "\n"
    return as_text(report, compared)


def _nothing(message: str) -> ProblemError:
    return ProblemError(Problem(Category.UNKNOWN, message, "Run a job first."))
