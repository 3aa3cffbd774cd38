"""The choice of where factorizations are computed for a device: measured once, and kept for every later evaluation."""

from __future__ import annotations

import json
from collections.abc import Collection

from evalsvc.core.batching import out_of_memory
from evalsvc.core.digests import digest_json
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.metrics import factorizations
from evalsvc.metrics.lazy_torch import torch


def choose_factorizations(context: EvaluationContext) -> None:
    """Have factorizations on a context's CUDA device done where they were faster in the first evaluation on such a one.

    Otherwise the last digits of scores might differ between two evaluations on one machine. On a device that is too
    full to measure, all of them are done on the host, and the next evaluation measures.
    """
    factorizations.use(context.device, _faster_on_host(context))


def _faster_on_host(context: EvaluationContext) -> Collection[str]:
    artifacts, device = context.artifacts, context.device
    driver = getattr(torch._C, "_cuda_getDriverVersion", int)()
    facts = [torch.cuda.get_device_name(device), torch.__version__, driver, list(factorizations.OPERATIONS)]
    key = f"backends/{digest_json(['factorizations', *facts])[:32]}.json"
    with artifacts.lock(f"locks/{key}"):
        if not artifacts.is_sound(key):
            try:
                measured = factorizations.measure(device)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                return factorizations.OPERATIONS
            artifacts.write_bytes(key, json.dumps(measured).encode())
        return factorizations.faster_on_host(json.loads(artifacts.read_bytes(key)))
