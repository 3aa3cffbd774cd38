"""Tokens of texts after their prompts, split as lm-evaluation-harness 0.4.13 splits them.

Prompt and text are encoded as one, with the special tokens that the tokenizer itself puts before a text, and the text's
tokens are those after as many as the prompt alone has. Spaces at the end of the prompt belong to the text. After an
empty prompt, the text is encoded without special tokens after the model's prefix token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evalsvc.builtin.language_models.model import LanguageModel


@dataclass(frozen=True)
class Continuation:
    """Tokens of a prompt, which are seen, and of its text, which are scored."""

    prompt: tuple[int, ...]
    text: tuple[int, ...]

    @property
    def tokens(self) -> tuple[int, ...]:
        """All of them."""
        return self.prompt + self.text


class ContinuationEncoder:
    """Encodes texts after prompts. ``prefix`` is the token before a text without a prompt, if there is one."""

    def __init__(self, model: LanguageModel, prefix: Sequence[int]) -> None:
        self._model, self._prefix = model, tuple(prefix)
        self._special = _leading_tokens(model)
        first = self._prefix[0] if self._prefix else model.tokenizer.bos_token_id
        self._spelled = "" if first is None else str(model.tokenizer.decode(first))

    def encode(self, prompts: Sequence[str], texts: Sequence[str]) -> list[Continuation]:
        """The continuation of each prompt by its text. An empty text has no tokens.

        A text that leaves no token of its own, because the tokenizer merges it into its prompt, is encoded by itself.
        """
        cuts = [len(prompt.rstrip()) for prompt in prompts]
        kept = [prompt[:cut] for prompt, cut in zip(prompts, cuts, strict=True)]
        after = [prompt[cut:] + text if text else "" for prompt, cut, text in zip(prompts, cuts, texts, strict=True)]
        distinct = list(dict.fromkeys(kept))
        seen = dict(zip(distinct, map(tuple, self._model.encode(distinct)), strict=True))
        whole = self._model.encode([prompt + text for prompt, text in zip(kept, after, strict=True)])
        made = []
        for prompt, text, tokens in zip(kept, texts, whole, strict=True):
            if prompt:
                start = seen[prompt]
                rest = tokens[len(start) :] or self._model.encode([text])[0]
                made.append(Continuation(self._before(prompt) + start, tuple(rest)))
            elif self._prefix and self._prefix != tuple(tokens[:1]):
                made.append(Continuation(self._prefix, tuple(tokens)))
            else:  # the first token has no probability
                made.append(Continuation(tuple(tokens[:1]), tuple(tokens[1:])))
        return made

    def _before(self, prompt: str) -> tuple[int, ...]:
        """Special tokens before a prompt; none if it spells the first one itself, as chat templates do."""
        return () if self._spelled and prompt.startswith(self._spelled) else self._special


def _leading_tokens(model: LanguageModel) -> tuple[int, ...]:
    """Special tokens that the tokenizer puts before a text by default."""
    plain = model.encode(["a"])[0]
    full = list(model.tokenizer(["a"], verbose=False)["input_ids"][0])
    where = [at for at in range(len(full)) if full[at : at + len(plain)] == plain]
    return tuple(full[: where[0]]) if where else ()
