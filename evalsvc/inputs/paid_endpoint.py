"""An endpoint whose answers are paid once, and whose refusal of a prompt is a failure of that prompt alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict

from evalsvc.core.digests import digest_json
from evalsvc.core.settings import Settings
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.inputs.endpoint_requests import RefusedError
from evalsvc.inputs.endpoints import Endpoint, Written
from evalsvc.inputs.paid_answers import PaidAnswers
from evalsvc.plugins.items import Prompt

log = logging.getLogger(__name__)


class PaidEndpoint:
    """Writes texts with an endpoint, concurrently. Answers are kept under EVALSVC_HOME until a receipt is settled."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._paid = PaidAnswers(Settings().home.resolve() / "paid-answers" / endpoint.digest[:16])
        self._answered = False

    def write(self, asked: Iterable[tuple[Prompt, int]], decoding: Decoding) -> list[Written]:
        """One text for each prompt and seed, in order; a refused prompt is a text with a ``failure``.

        A forbidden prompt (403) is refused if the server still answers a harmless one.

        Raises:
            RefusedError: the server refused the first prompts, all of them, or rejects the key or the address.
            UnavailableError: it did not respond.
        """
        answers = self._endpoint.each(lambda each: self._write(*each, decoding), asked)
        refusals = [answer for answer in answers if isinstance(answer, RefusedError)]
        self._answered |= len(refusals) < len(answers)
        if refusals and not self._answered:  # nothing says that it is about the prompts
            raise refusals[0]
        if any(refusal.forbidden for refusal in refusals):
            self._check_key(decoding.chat)
        return [Written("", failure=each.reason) if isinstance(each, RefusedError) else each for each in answers]

    def receipt(self) -> Callable[[], None]:
        """A function that deletes the paid answers that were kept since the last receipt."""
        return self._paid.receipt()

    def _check_key(self, chat: bool) -> None:
        """Raise if the server forbids a harmless prompt too: then 403 was not about the prompts."""
        try:
            self._endpoint.write("Hello", Decoding(chat=chat, max_tokens=16), 0)
        except RefusedError as error:
            if not error.of_one:
                raise

    def _write(self, prompt: Prompt, seed: int, decoding: Decoding) -> Written | RefusedError:
        """The answer to a prompt, paid once; or its refusal, which goes to the log."""
        options = decoding.model_dump(exclude={"prompts"})
        request = digest_json([self._endpoint.digest, prompt, options, seed])
        with suppress(TypeError):  # kept by another version
            if kept := self._paid.get(request):
                return Written(**kept)
        try:
            written = self._endpoint.write(prompt, decoding, seed)
        except RefusedError as error:
            if not error.of_one and not error.forbidden:
                raise
            log.warning("%s: %s", error.reason, error.detail)
            return error
        self._paid.add(request, asdict(written))
        return written
