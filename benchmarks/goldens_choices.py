"""Write the values of lm-evaluation-harness for the shipped questions: log-likelihoods of the choices, acc, acc_norm.

``python benchmarks/goldens_choices.py FOLDER SUITE > tests/evalsvc/builtin/choices.json`` in an environment with
lm_eval==0.4.13, accelerate, torch and transformers. FOLDER is SmolLM2 as evalsvc converts it (``gguf.converted``), in
float32; SUITE is ``evalsvc/inputs/suite_files/questions@1.yaml``. Three tasks: the suite's; and of the first 12
questions, one whose prompts end with spaces, which the harness moves, and one of chats.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from pathlib import Path

import yaml

FEW = 12


def tasks(prompt: str) -> dict[str, dict[str, str]]:
    return {
        "plain": {"doc_to_text": prompt.replace("{question}", "{{question}}"), "target_delimiter": " "},
        "spaces": {"doc_to_text": "Question: {{question}}\nAnswer:  ", "target_delimiter": ""},
        "chat": {"doc_to_text": "{{question}}", "target_delimiter": " "},
    }


def main(folder: str, suite: str) -> None:
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    logging.disable(logging.WARNING)
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    items = yaml.safe_load(Path(suite).read_text())["items"]
    questions = Path(suite).resolve().with_name(items["file"])
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(questions)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{['A', 'B', 'C', 'D'].index(answer)}}",
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")
        ],
    }
    model = HFLM(pretrained=folder, dtype="float32", device="cpu", batch_size=8)
    goldens: dict[str, object] = {"lm_eval": lm_eval.__version__}
    with tempfile.TemporaryDirectory() as place:
        for name, more in tasks(items["prompt"]).items():
            Path(place, f"{name}.yaml").write_text(yaml.safe_dump({"task": f"questions_{name}", **common, **more}))
        manager = TaskManager(include_path=place, include_defaults=False)
        for name in tasks(""):
            results = lm_eval.simple_evaluate(
                model,
                tasks=[f"questions_{name}"],
                task_manager=manager,
                apply_chat_template=name == "chat",
                limit=None if name == "plain" else FEW,
                bootstrap_iters=0,
            )
            samples = sorted(results["samples"][f"questions_{name}"], key=lambda sample: sample["doc_id"])
            goldens[name] = {
                sample["doc"]["id"]: {
                    "loglikelihoods": [round(float(value), 5) for ((value, _),) in sample["resps"]],
                    "acc": sample["acc"],
                    "acc_norm": sample["acc_norm"],
                }
                for sample in samples
            }
    sys.stdout.write(json.dumps(goldens, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
