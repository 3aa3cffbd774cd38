"""Texts of prompts as a language model reads them: chats go through the checkpoint's template."""

from __future__ import annotations

from collections.abc import Sequence

from evalsvc.builtin.language_models.chat_templates import render
from evalsvc.builtin.language_models.model import LanguageModel
from evalsvc.core.errors import CheckpointError, InputError
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.plugins.items import Prompt, messages_of


class PromptTexts:
    """Renders prompts; each chat is rendered once, since a template runs in a process of its own.

    A prompt of messages is always a chat; with ``decoding.chat``, a text is one too: a message of the user.
    """

    def __init__(self, model: LanguageModel, decoding: Decoding, who: str) -> None:
        self._model, self._decoding, self._who = model, decoding, who
        self._rendered: dict[Prompt, str] = {}

    def is_chat(self, prompt: Prompt) -> bool:
        """Whether the prompt goes through the template."""
        return self._decoding.chat or not isinstance(prompt, str)

    def of(self, prompts: Sequence[Prompt]) -> list[str]:
        """The text of each prompt.

        Raises:
            InputError: a prompt is a chat, and the checkpoint has no template.
            CheckpointError: its template fails, or leaves out a system message.
        """
        chats = [each for each in dict.fromkeys(prompts) if self.is_chat(each) and each not in self._rendered]
        if chats:
            tokenizer = self._model.tokenizer
            if not getattr(tokenizer, "chat_template", None):
                raise InputError(
                    f"{self._model.name} has no chat template, but {self._who} was given a chat: omit 'chat' and use "
                    "texts as prompts, or use a chat model"
                )
            messages = [messages_of(each, self._decoding.system) for each in chats]
            texts = render(tokenizer.get_chat_template(), messages, tokenizer.special_tokens_map)
            for chat, text in zip(messages, texts, strict=True):
                if any(each["role"] == "system" and each["content"].strip() not in text for each in chat):
                    raise CheckpointError(
                        f"the chat template of {self._model.name} leaves the system message out: omit it, or use "
                        "another template"
                    )
            self._rendered |= zip(chats, texts, strict=True)
        return [self._rendered[each] if self.is_chat(each) else str(each) for each in prompts]
