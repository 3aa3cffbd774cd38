"""A graph of ONNX that maps latents, labels or sources to samples, run by onnxruntime on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from evalsvc.builtin.generators.call_options import CallOptions
from evalsvc.builtin.generators.network_output import CHANNELS
from evalsvc.builtin.generators.network_sampler import NetworkSampler
from evalsvc.builtin.generators.onnx_graph import Graph, GraphInput, read_graph
from evalsvc.builtin.generators.options import options_of
from evalsvc.builtin.generators.parameters import Parameter, Role, assign
from evalsvc.core.errors import CheckpointError, InputError, first_line
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.plugins.registry import versioned
from evalsvc.plugins.samples import SampleRequest, Samples

WHO = "generator 'onnx-module'"
MOST_THREADS = 256


@versioned("0.1.0")
class OnnxModule:
    """The plug-in ``onnx-module``: a ``.onnx`` file, or a folder with one and the files of its weights.

    Its options are those of :class:`~evalsvc.builtin.generators.call_options.CallOptions`, and ``threads``. The shape
    of a latent is that of the graph's input. Only the first output is read.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device, *, threads: int = 1, **options: Any) -> None:
        if not isinstance(threads, int) or not 1 <= threads <= MOST_THREADS:
            raise InputError(f"invalid option threads={threads!r} of {WHO}: use 1 to {MOST_THREADS}")
        asked = options_of(CallOptions, options, WHO)
        try:
            graph = read_graph(checkpoint.path)
            run = _session(graph, threads, checkpoint)
        except ImportError:
            raise InputError(f"{WHO} needs its extra: pip install 'evalsvc[onnxruntime]'") from None
        self._sampler = _sampler(graph, run, asked, checkpoint.path.name)
        self.info = self._sampler.info("onnx", "", device)

    def sample(self, request: SampleRequest) -> Samples:
        """One sample per seed."""
        return self._sampler.sample(request)


def _sampler(graph: Graph, run: Callable[..., Any], options: CallOptions, who: str) -> NetworkSampler:
    has_latent = options.latent is not None or any(_is_latent(each) for each in graph.inputs)
    first: Role = "latent" if has_latent else "source"
    assigned = assign([Parameter(each.name) for each in graph.inputs], first, has_latent, who, options.inputs)
    of_role = {assigned.roles[each.name]: each for each in graph.inputs if each.name in assigned.roles}
    if options.latent is None and "latent" in of_role:
        sizes = of_role["latent"].sizes[1:]
        if not sizes or 0 in sizes:
            raise InputError(f"{who} does not fix the shape of {of_role['latent'].name}: give it as option latent")
        options = options.model_copy(update={"latent": sizes})
    batch = {each.sizes[0] for role, each in of_role.items() if role != "count" and each.sizes}
    if fixed := sorted(batch - {0, 1}):
        raise InputError(f"{who} takes {fixed[0]} samples at a time: export it with a dynamic first axis, or with 1")
    # As vectors: one_hot of their width, where labels are floats.
    label = of_role.get("label")
    one_hot = label.sizes[1] if label and label.dtype.startswith("float") and len(label.sizes) == 2 else None
    return NetworkSampler(run, assigned, options, who, one_hot=one_hot, singly=1 in batch)


def _is_latent(each: GraphInput) -> bool:
    """Whether an input has a fixed shape of floats other than that of images."""
    is_image = len(each.sizes) == 4 and each.sizes[1] in CHANNELS
    return each.dtype.startswith("float") and len(each.sizes) > 1 and 0 not in each.sizes[1:] and not is_image


def _session(graph: Graph, threads: int, checkpoint: Checkpoint) -> Callable[..., Any]:
    """A function of the graph's inputs by name, tensors or lists of texts, that returns its first output."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    settings.use_deterministic_compute = True
    settings.log_severity_level = 4  # its messages are in the exceptions too
    settings.add_session_config_entry("session.model_external_initializers_file_folder_path", str(graph.folder))
    try:
        session = onnxruntime.InferenceSession(graph.content, settings, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise CheckpointError(
            f"{checkpoint.path} cannot be opened ({first_line(error, 200)}): export it again"
        ) from None
    types, first = {each.name: each.dtype for each in graph.inputs}, session.get_outputs()[0].name

    def run(**values: Any) -> Any:
        arrays = {
            name: np.asarray(value.cpu().numpy() if isinstance(value, torch.Tensor) else value, types[name])
            for name, value in values.items()
        }
        (output,) = session.run([first], arrays)
        return torch.from_numpy(output)

    return run
