"""The choice of where factorizations are computed for a device: measured once, and kept for every later evaluation."""

from __future__ import annotations

import json

from evalsvc.core.digests import digest_json
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.metrics import factorizations
from evalsvc.metrics.lazy_torch import torch


def choose_factorizations(context: EvaluationContext) -> None:
    """Have factorizations on a context's CUDA device done where they were faster in the first evaluation on such a one.

    Otherwise the last digits of scores might differ between two evaluations on one machine.
    """
    artifacts, device = context.artifacts, context.device
    driver = getattr(torch._C, "_cuda_getDriverVersion", int)()
    facts = [torch.cuda.get_device_name(device), torch.__version__, driver, list(factorizations.OPERATIONS)]
    key = f"backends/{digest_json(['factorizations', *facts])[:32]}.json"
    with artifacts.lock(f"locks/{key}"):
        if not artifacts.is_sound(key):
            artifacts.write_bytes(key, json.dumps(factorizations.measure(device)).encode())
        seconds = json.loads(artifacts.read_bytes(key))
    factorizations.use(device, factorizations.faster_on_host(seconds))
