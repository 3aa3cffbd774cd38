"""Do our likelihoods agree with lm-evaluation-harness (``HFLM.loglikelihood_rolling``) on SmolLM2? Prints a table.

``.venv-peers-text/bin/python benchmarks/agree_text.py``. The harness moves its windows by their whole length, which is
our context of 1, and takes the beginning-of-text token as prefix. A tokenizer that adds this token itself makes it
score the token too; ours never does, which the last row shows.
"""

from __future__ import annotations

import logging
import os

import numpy as np


def main() -> None:
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    logging.disable(logging.WARNING)
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from evalsvc.builtin.demo.prose import prose_reference
    from evalsvc.builtin.extractors.language import LikelihoodExtractor
    from evalsvc.builtin.language_models.gguf import converted
    from evalsvc.inputs import published_weights

    folder = converted(published_weights.locate(published_weights.get("smollm2")))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    half = prose_reference().heldout
    texts = [half.read(0, 1).items[0][:900], "short", "emoji 🙂 and 中文"]
    requests = [Instance("loglikelihood_rolling", {}, (text,), number) for number, text in enumerate(texts)]
    print("| window | softmax of the harness | perplexity, ours | harness | largest relative difference of a text |")
    print("|---|---|---|---|---|")
    for window, softmax, add_bos in (
        (64, "float64", False), (128, "float64", False), (1024, "float64", False), (1024, "float32", False),
        (1024, "float64", True),
    ):  # fmt: skip
        if add_bos:
            from tokenizers.processors import TemplateProcessing

            tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
                single=f"{tokenizer.bos_token} $A", special_tokens=[(tokenizer.bos_token, tokenizer.bos_token_id)]
            )
        harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, max_length=window, softmax_dtype=softmax)
        theirs = -np.array(harness.loglikelihood_rolling(requests, disable_tqdm=True))
        found = LikelihoodExtractor(str(folder), window=window).extract(texts)
        off = np.abs(found["nll"] / theirs - 1).max()
        count = found["tokens"].sum()
        mine, other = (float(np.exp(nats.sum() / count)) for nats in (found["nll"], theirs))
        note = ", scores its own beginning" if add_bos else ""
        print(f"| {window}{note} | {softmax} | {mine:.6f} | {other:.6f} | {off:.1e} |")
        print(f"<!-- {[round(float(x), 6) for x in theirs]} -->")


if __name__ == "__main__":
    main()
