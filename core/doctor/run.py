"""Looks at everything, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from core.doctor import cards, drives, environment, kept, media, servers, surroundings, versions
from core.doctor.asking import NoAnswerError, StoppedError, Why
from core.doctor.context import Context
from core.doctor.findings import Finding, Looking, broken, warning

_log = logging.getLogger(__name__)

Look = Callable[[Context], Iterable[Finding | Looking]]


@dataclass(frozen=True, slots=True)
class Check:
    """One look.

    Attributes:
        id: Stable key.
        title: What is looked at, in a few words.
        look: Yields what is found.
        long: It takes more than a few seconds; a quick run leaves it out.
    """

    id: str
    title: str
    look: Look
    long: bool = False


CHECKS: tuple[Check, ...] = (
    Check("versions", "Framedeck", versions.program),
    Check("engine", "Engine", versions.engine),
    Check("engine.files", "Engine's files", environment.files, long=True),
    Check("cards", "GPU, driver and torch", cards.check),
    Check("folders", "Folders", drives.check),
    Check("codecs", "Formats", media.codecs),
    Check("qt", "Qt", surroundings.screen),
    Check("ledger", "List of jobs", kept.ledger),
    Check("settings", "Settings", kept.settings),
    Check("comfy", "ComfyUI", servers.comfy),
    Check("llm", "Language models", servers.language),
    Check("keyring", "Keyring", surroundings.keyring),
    Check("clock", "Clock", surroundings.clock),
    Check("awake", "Staying awake", surroundings.awake),
    Check("starter", "Starter model", media.starter),
    Check("clip", "Starter clip", media.clip, long=True),
)


def examine(
    context: Context, checks: Iterable[Check] = CHECKS, *, quick: bool = False
) -> Iterator[Finding | Looking]:
    """Yield what is being looked at and what is found; ends early once it is stopped.

    Blocks, bounded: every look that may hang has its own limit. Nothing is raised; a look that
    fails is a finding too.
    """
    for check in checks:
        if quick and check.long:
            continue
        if context.stopped():
            return
        yield Looking(check.title)
        try:
            yield from check.look(context)
        except StoppedError:
            return
        except NoAnswerError as error:
            yield _silent(check, error)
        except OSError as error:
            why = error.strerror or str(error)
            yield broken(
                check.id,
                check.title,
                f"This could not be looked at: {why}.",
                "The findings about folders say which one lacks room or rights.",
            )
        except Exception as error:  # noqa: BLE001 - one look that fails must not hide the others
            _log.error("the look at %s failed", check.id, exc_info=error)
            yield broken(
                check.id,
                check.title,
                f"This could not be looked at ({type(error).__name__}).",
                "The log has more; report it.",
            )


def _silent(check: Check, error: NoAnswerError) -> Finding:
    if error.why is Why.HUNG:
        text = f"There was no answer within {error.said}: something hangs."
    else:
        text = f"This could not be looked at: {error.said}."
    return warning(check.id, check.title, text, "Restart the computer and run the doctor again.")
