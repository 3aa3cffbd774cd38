"""The head of a 49,152-token vocabulary over 4,096 positions: does scoring stay within 100 MB over the model?

``python benchmarks/text_memory.py``. All logits at once would be 805 MB. What counts is the process's own memory
(RssAnon), sampled while it runs, over what it has with the model loaded and after a first short text.
"""

from __future__ import annotations

import sys
import tempfile
import threading

import torch
from manifold_memory import anonymous_gb
from transformers import LlamaConfig, LlamaForCausalLM

LIMIT_MB, TOKENS, VOCABULARY = 100, 4096, 49_152


def main() -> None:
    from evalsvc.builtin.demo.train_text import byte_tokenizer
    from evalsvc.builtin.extractors.language import LikelihoodExtractor

    with tempfile.TemporaryDirectory() as folder:
        config = LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=128, intermediate_size=352, num_hidden_layers=1, num_attention_heads=4,
            max_position_embeddings=TOKENS, bos_token_id=0, eos_token_id=1,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
        byte_tokenizer().save_pretrained(folder)
        extractor = LikelihoodExtractor(folder)
    extractor.extract(["short"])
    before, peak, done = anonymous_gb(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], anonymous_gb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    found = extractor.extract(["x" * TOKENS])
    done.set()
    watcher.join()
    over = (peak[0] - before) * 1024
    print(f"{found['tokens'][0]} tokens, torch {torch.__version__}: peak {over:.0f} MB over the model")
    if over > LIMIT_MB:
        sys.exit(f"more than {LIMIT_MB} MB")


if __name__ == "__main__":
    main()
