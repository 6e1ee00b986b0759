"""Having a prompt on a server once: by finding it there, or by sending it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from core.engines.comfy import rejections
from core.engines.comfy.answers import End
from core.engines.comfy.http import Server, UnclearError
from core.engines.comfy.parts import Part, Parts
from core.engines.comfy.reconcile import Found, Standing, look, look_surely
from core.errors import ProblemError
from core.jobs import Job

if TYPE_CHECKING:
    from core.engines.comfy.client import Patience

_POST_LOOKS_SECONDS = 30.0


class Sender:
    """Sends the parts of one job, none of them twice.

    Args:
        job: The job.
        server: Where to.
        client: Who hears the progress.
        patience: How long the server may be away.
        attach: An earlier start of the program sent the job: look surely.
        pause: Waits so many seconds; True means stop.
    """

    def __init__(
        self,
        job: Job,
        server: Server,
        client: str,
        patience: Patience,
        pause: Callable[[float], bool],
        *,
        attach: bool,
    ) -> None:
        self._job, self._server, self._client = job, server, client
        self._patience, self._pause, self._attach = patience, pause, attach

    def find(self, prompt: str) -> Found:
        """Look whether the server has a prompt already. Raises ProblemError."""
        if not self._attach:
            return look(self._server, prompt, self._client)
        away = self._patience.away
        return look_surely(self._server, prompt, self._client, self._pause, away)

    def find_job(self, parts: Parts) -> Found:
        """Find the latest part of the job that the server knows; `parts` stands there then.

        Raises:
            ProblemError: The server does not answer.
        """
        found = self.find(self._job.id)
        if found.prompt != self._job.id:
            parts.stand(found.prompt)
        elif found.standing is Standing.ENDED or (
            found.standing is Standing.ABSENT and self._attach
        ):
            for prompt in parts.later():
                record = self._server.history(prompt)
                if record is not None:
                    parts.stand(prompt)
                    if found.record is not None:
                        parts.took(found.record.outputs)
                    return Found(Standing.ENDED, prompt, record)
        return found

    def retry(self, parts: Parts) -> Found:
        """Clear an earlier try away, but for what it sampled: `parts` says whether that is kept.

        Raises:
            ProblemError: The server does not answer.
        """
        parts.begin_anew()
        first = self._server.history(self._job.id)
        if first is not None and first.end is End.SUCCESS and parts.took(first.outputs):
            self._server.forget(parts.later())
            return Found(Standing.ENDED, self._job.id, first)
        self.forget(parts)
        return Found(Standing.ABSENT, self._job.id)

    def forget(self, parts: Parts) -> None:
        """Forget what was sampled: its latents are gone. Raises ProblemError."""
        self._server.forget([self._job.id, *parts.later()])
        parts.begin_anew()

    def submit(self, part: Part) -> tuple[str, str]:
        """Queue a part.

        Returns:
            The id that it got, and what is worth telling of it.

        Raises:
            ProblemError: It was refused, or the server does not have it.
        """
        extra = {"framedeck": {"job": self._job.id, "recipe": self._job.recipe}}
        try:
            taken = self._server.submit(
                part.graph, prompt=part.prompt, client=self._client, extra=extra
            )
        except UnclearError as error:
            # It may have been taken all the same: a 500 has been seen that was.
            found = look_surely(
                self._server, part.prompt, self._client, self._pause, _POST_LOOKS_SECONDS
            )
            if found.standing is Standing.ABSENT:
                raise ProblemError(error.problem) from error
            return found.prompt, ""
        return taken.prompt, rejections.skipped(taken.node_errors, part.graph)
