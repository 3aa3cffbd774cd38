"""A pretended accelerator on a machine without one.

Tensors that are moved to it, or made on it, are wrappers: their data stay in the memory of the host, where CPU kernels
compute on them, but they say that they are on ``cuda:0`` (or ``mps:0``), so that code takes its branches for a device.
Each operator first checks devices as CUDA does (mixing them raises), ``.numpy()`` refuses, and all that would
synchronize or copy is counted by call site. TF32 is emulated (operands are rounded to 10 bits of mantissa) wherever
the switches of torch allow it. It does not show the rounding of cuBLAS and cuDNN, atomics, streams or times.

    with PretendedDevice() as device:
        result = function(device.tensor(x))
    assert not device.tf32
    device.synchronizations.total()
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

from evalsvc.metrics import factorizations

ROOT = Path(__file__).resolve().parents[1]
aten = torch.ops.aten

if not torch.cuda.is_available():
    torch._C._ensureCUDADeviceGuardSet()  # a guard that does nothing, as FakeTensorMode installs it

CONVOLUTIONS = {getattr(aten, name).default for name in ("convolution", "_convolution", "conv1d", "conv2d", "conv3d")}
PRODUCTS = {
    *(getattr(aten, name).default for name in ("mm", "addmm", "bmm", "baddbmm", "addmm_", "linear", "matmul")),
    *(getattr(aten, name).out for name in ("mm", "addmm", "bmm", "baddbmm")),
}
NO_SCALARS_OF_THE_HOST = PRODUCTS | CONVOLUTIONS | {aten.mv.default, aten.dot.default, aten.cat.default}
INDEXING = {
    aten.index.Tensor,
    aten.index_put_.default,
    aten.index_put.default,
    aten._index_put_impl_.default,
    aten._unsafe_index.Tensor,
}
BETWEEN_DEVICES = {aten._to_copy.default, aten.copy_.default}
SYNCHRONIZING = {
    aten._local_scalar_dense.default: "item",
    aten.is_nonzero.default: "item",
    aten.nonzero.default: "nonzero",
    aten.bincount.default: "bincount",
    aten.equal.default: "equal",
    aten.masked_select.default: "masked_select",
    aten._unique2.default: "unique",
    aten.unique_dim.default: "unique",
    aten.repeat_interleave.Tensor: "repeat_interleave",
}
NONDETERMINISTIC = {
    aten.index_add_.default,
    aten.index_add.default,
    aten.scatter_add_.default,
    aten.scatter_add.default,
    aten.scatter_reduce.two,
    aten.histc.default,
    aten.cumsum.default,
    aten.put_.default,
}
NO_KERNEL = ("not linked with support for", "' backend", "An unexpected device type was provided")
"""Words of torch's errors about a device that its build for the CPU does not have."""
OF_A_VALUE = {
    "__float__",
    "__int__",
    "__bool__",
    "__index__",
    "item",
    "__format__",
    "is_nonzero",
    "__contains__",
    "tolist",
}
DRAWS = {
    *("rand", "randn", "randint", "randperm", "normal", "rand_like", "randn_like", "randint_like"),
    *("bernoulli", "multinomial", "poisson"),
}
"""Functions that draw from the global generator of the device."""


class DeviceMixError(RuntimeError):
    """Tensors of two devices meet in an operator that takes them of one."""


class PretendedTensor(torch.Tensor):
    """A tensor that says it is on the pretended device; ``inner`` holds its data."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor, device: torch.device) -> PretendedTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=device,
        )
        made.inner = inner
        return made

    def __repr__(self) -> str:
        return f"PretendedTensor({self.inner!r})"

    def __deepcopy__(self, memo: Any) -> PretendedTensor:
        return PretendedTensor(self.inner.clone(), self.device)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert PretendedDevice.current is not None, "a tensor of a pretended device is used after the device's end"
        return PretendedDevice.current.dispatch(func, args, dict(kwargs or {}))


class PretendedDevice(TorchFunctionMode):
    """The device while it is entered; one at a time.

    ``largest`` is the size in bytes of the largest tensor that it can hold: one that is larger raises what ``full``
    makes. ``free`` bytes of memory are reported as free.
    """

    current: PretendedDevice | None = None

    def __init__(self, kind: str = "cuda", *, largest: int | None = None, free: int = 64 * 2**30) -> None:
        super().__init__()
        self.kind, self.device = kind, torch.device(kind, 0)
        self.largest, self.free = largest, free
        self.full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.synchronizations: Counter[tuple[str, str]] = Counter()
        """By kind and call site: what waits for the device."""
        self.copies: Counter[tuple[str, str]] = Counter()
        """By direction (``to device``, ``to host``) and call site."""
        self.blocking_uploads: Counter[str] = Counter()
        """By call site: copies to the device that are not ``non_blocking``, for which CUDA waits."""
        self.tf32: Counter[tuple[str, str]] = Counter()
        """By operator and call site: float32 operators that were allowed to compute in TF32."""
        self.full_float32: Counter[tuple[str, str]] = Counter()
        """The same of those that were not."""
        self.nondeterministic: Counter[tuple[str, str]] = Counter()
        """By operator and call site: operators whose kernels on CUDA do not add floats in one order."""
        self.wide: Counter[str] = Counter()
        """By call site: operators in float64."""
        self.operators = 0
        self.generator = torch.Generator()
        """The global generator of the device."""
        self.made_current: list[int] = []
        """The devices that became the current one, in order."""

    def tensor(self, x: Any) -> PretendedTensor:
        """A copy of an array on the device."""
        return PretendedTensor(torch.as_tensor(x).detach().clone(), self.device)

    def forget(self) -> None:
        """Count from zero."""
        for counts in (
            self.synchronizations,
            self.copies,
            self.blocking_uploads,
            self.tf32,
            self.full_float32,
            self.nondeterministic,
            self.wide,
        ):
            counts.clear()
        self.operators = 0

    # --- entering ---

    def __enter__(self) -> PretendedDevice:
        assert PretendedDevice.current is None
        PretendedDevice.current = self
        self._patches = ExitStack()
        inference = torch.autograd.grad_mode.inference_mode  # refuses wrappers
        no_grad = torch.no_grad()
        for owner, name, value in (
            (inference, "__enter__", lambda _: None),
            (inference, "__exit__", lambda *_: None),
            (torch.cuda, "synchronize", lambda *_: self._synchronized("synchronize")),
            (torch.cuda, "empty_cache", lambda: None),
            (torch.cuda, "mem_get_info", lambda *_: (self.free, 80 * 2**30)),
            (torch.cuda, "get_device_name", lambda *_: "pretended device"),
            (torch.cuda, "init", lambda: None),
            (torch.cuda, "current_device", lambda: 0),
            (torch.cuda, "_exchange_device", self._exchanged),
            (torch.cuda, "_maybe_exchange_device", self._exchanged),
            (torch.cuda, "default_generators", (self.generator,)),
            (torch.cuda, "get_rng_state", lambda *_: self.generator.get_state()),
            (torch.cuda, "manual_seed_all", self.generator.manual_seed),
            (torch.mps, "_get_default_mps_generator", lambda: self.generator),
            (torch.cuda, "reset_peak_memory_stats", lambda *_: None),
            (torch.cuda, "max_memory_allocated", lambda *_: 0),
        ):
            self._patches.enter_context(mock.patch.object(owner, name, value))
        before = torch.__future__.get_overwrite_module_params_on_conversion()
        self._patches.callback(torch.__future__.set_overwrite_module_params_on_conversion, before)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        # Nothing is measured: the times are the host's, and what they choose would change from run to run.
        self._patches.enter_context(mock.patch.dict(factorizations._on_host, {self.device: frozenset()}))
        self._patches.enter_context(no_grad)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._patches.close()
        PretendedDevice.current = None

    # --- wrapping ---

    def is_mine(self, device: Any) -> bool:
        return isinstance(device, str | torch.device) and torch.device(device).type == self.kind

    def wrap(self, x: Any) -> Any:
        """A tensor as one of the device, which refuses what it could not hold."""
        if not isinstance(x, torch.Tensor) or isinstance(x, PretendedTensor):
            return x
        if self.kind == "mps" and x.dtype == torch.float64:
            raise TypeError(f"Cannot convert a MPS Tensor to float64 dtype (at {_site()})")
        if self.largest is not None and x.numel() * x.element_size() > self.largest:
            raise self.full
        return PretendedTensor(x.detach(), self.device)

    def _synchronized(self, kind: str) -> None:
        self.synchronizations[kind, _site()] += 1

    def _exchanged(self, index: int) -> int:
        self.made_current.append(index)
        return 0

    # --- operators ---

    def dispatch(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        where = _site()
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
        mine = [t for t in tensors if isinstance(t, PretendedTensor)]
        of_host = [t for t in tensors if not isinstance(t, PretendedTensor)]
        if func in INDEXING:
            self._check_indices(func, args, where)
        elif func not in BETWEEN_DEVICES and mine and of_host:
            if any(t.dim() > 0 for t in of_host) or func in NO_SCALARS_OF_THE_HOST:
                raise _mixed(func, where)
            if all(t.dim() == 0 for t in mine) and any(t.dim() > 0 for t in of_host):
                raise _mixed(func, where)
        self._count(func, args, mine, where)
        asked = kwargs.get("device")
        here = bool(mine) if asked is None else self.is_mine(asked)
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        inner, options = tree_map(_unwrapped, args), tree_map(_unwrapped, kwargs)
        if func in PRODUCTS | CONVOLUTIONS and mine and mine[0].dtype == torch.float32:
            inner = self._rounded(func, inner, where)
        with self._own_generator(drawn=here and torch.Tag.nondeterministic_seeded in func.tags):
            result = func(*inner, **options)
        # In-place and out= variants return the tensors that they were given.
        arguments = func._schema.arguments
        if outs := [kwargs[each.name] for each in arguments if each.is_out]:
            return outs[0] if len(outs) == 1 else tuple(outs)
        first = arguments[0].alias_info if arguments else None
        if first is not None and first.is_write and isinstance(result, torch.Tensor):
            return args[0]
        return tree_map(self.wrap, result) if here else result

    @contextmanager
    def _own_generator(self, *, drawn: bool) -> Iterator[None]:
        """Within, what is ``drawn`` on the host comes from the generator of the device."""
        if not drawn:
            yield
            return
        of_host = torch.get_rng_state()
        torch.set_rng_state(self.generator.get_state())
        try:
            yield
        finally:
            self.generator.set_state(torch.get_rng_state())
            torch.set_rng_state(of_host)

    def _count(self, func: Any, args: Any, mine: list[Any], where: str) -> None:
        self.operators += 1
        if func in SYNCHRONIZING:
            self.synchronizations[SYNCHRONIZING[func], where] += 1
        if func in NONDETERMINISTIC and mine and mine[0].dtype.is_floating_point:
            self.nondeterministic[str(func), where] += 1
        if any(t.dtype == torch.float64 for t in mine):
            self.wide[where] += 1
        if func == aten.copy_.default and len({isinstance(t, PretendedTensor) for t in args[:2]}) == 2:
            self.copies["to device" if isinstance(args[0], PretendedTensor) else "to host", where] += 1

    def _rounded(self, func: Any, inner: Any, where: str) -> Any:
        backends = torch.backends
        allowed = backends.cudnn.conv if func in CONVOLUTIONS else backends.cuda.matmul
        if allowed.fp32_precision != "tf32":
            self.full_float32[str(func), where] += 1
            return inner
        self.tf32[str(func), where] += 1
        return tree_map(lambda t: tf32(t) if isinstance(t, torch.Tensor) and t.dim() > 1 else t, inner)

    def _check_indices(self, func: Any, args: Any, where: str) -> None:
        target, indices = args[0], [index for index in args[1] if index is not None]
        on_device = isinstance(target, PretendedTensor)
        if not on_device and any(isinstance(index, PretendedTensor) for index in indices):
            raise DeviceMixError(f"indices should be either on cpu or on the device of the tensor [{func}] at {where}")
        value = args[2] if len(args) > 2 else None
        if isinstance(value, torch.Tensor) and isinstance(value, PretendedTensor) != on_device and value.dim() > 0:
            raise _mixed(func, where)
        self._count_indices(indices, where, on_device=on_device)

    def _count_indices(self, indices: list[torch.Tensor], where: str, *, on_device: bool) -> None:
        if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
            self.synchronizations["mask", where] += 1
        if on_device and any(not isinstance(index, PretendedTensor) for index in indices):
            self.copies["to device", where] += 1

    # --- functions of torch ---

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", str(func))
        kwargs.pop("pin_memory", None)
        first = args[0] if args else None
        on_device = isinstance(first, PretendedTensor)
        if on_device and name in ("numpy", "__array__"):
            raise TypeError(f"can't convert {self.device} device type tensor to numpy: use Tensor.cpu() ({_site()})")
        if on_device and name == "data_ptr":
            return first.inner.data_ptr()
        if on_device and name in OF_A_VALUE:
            self._synchronized("item")
            with torch._C.DisableTorchFunction():
                return getattr(first.inner, name)(*args[1:], **kwargs)
        if name == "pin_memory":
            return first
        if name == "as_tensor" and on_device and kwargs.get("device") is None:
            return first.to(kwargs.get("dtype", first.dtype))
        if self.kind == "mps" and name in ("scaled_dot_product_attention", "lstm"):  # which choose a kernel by device
            return self._outside(func, name, args, kwargs)
        if name in ("__getitem__", "__setitem__"):
            return self._indexed(func, name, args, kwargs)
        if name == "where" and len(args) == 3 and any(isinstance(t, PretendedTensor) for t in args):
            return self._outside(func, name, args, kwargs)
        if name in ("to", "cpu", "cuda") and isinstance(first, torch.Tensor):
            moved = self._moved(name, args, kwargs)
            if moved is not None:
                return moved
        if on_device and (name.startswith("new_") or name.endswith("_like")) and not kwargs.get("device"):
            with torch._C.DisableTorchFunction(), self._own_generator(drawn=name in DRAWS):
                return self.wrap(func(first.inner, *args[1:], **kwargs))
        if self.is_mine(kwargs.get("device")) and name not in ("to", "get_device_module", "device"):
            if name in ("tensor", "as_tensor", "new_tensor"):
                self.copies["to device", _site()] += 1
                self.blocking_uploads[_site()] += 1
            kwargs["device"] = torch.device("cpu")
            with torch._C.DisableTorchFunction(), self._own_generator(drawn=name in DRAWS):
                return tree_map(self.wrap, func(*tree_map(_unwrapped, args), **tree_map(_unwrapped, kwargs)))
        if name == "lstm" and any(isinstance(t, PretendedTensor) for t in tree_flatten(args)[0]):
            counts = self.tf32 if torch.backends.cudnn.rnn.fp32_precision == "tf32" else self.full_float32
            counts["lstm", _site()] += 1
        try:
            return func(*args, **kwargs)
        except (RuntimeError, NotImplementedError) as error:
            # Functions without a kernel to dispatch to: the CPU build of torch refuses the device before.
            if not any(reason in str(error) for reason in NO_KERNEL):
                raise
        return self._outside(func, name, args, kwargs)

    def _outside(self, func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        """Compute a function on the data themselves, which no operator of the device sees."""
        where = _site()
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
        if any(not isinstance(t, PretendedTensor) and t.dim() > 0 for t in tensors):
            raise _mixed(name, where)
        if name == "nonzero" or (name == "where" and len(args) == 1):
            self.synchronizations["nonzero", where] += 1
        self.operators += 1
        with torch._C.DisableTorchFunction():
            result = func(*tree_map(_unwrapped, args), **tree_map(_unwrapped, kwargs))
        if name.endswith("_") and not name.startswith("__"):
            return args[0]
        return tree_map(self.wrap, result)

    def _indexed(self, func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        target, index = args[0], args[1]
        indices = [each for each in tree_flatten(index)[0] if isinstance(each, torch.Tensor)]
        on_device, where = isinstance(target, PretendedTensor), _site()
        if not on_device:
            if any(isinstance(each, PretendedTensor) and each.dim() > 0 for each in indices):
                raise _mixed(name, where)
            if not any(isinstance(each, PretendedTensor) for each in [*indices, *args[2:]]):
                return func(*args, **kwargs)
        self._count_indices(indices, where, on_device=on_device)
        if any(each.dim() == 0 and not each.dtype.is_floating_point for each in indices):
            self.synchronizations["0-d index", where] += 1
        if isinstance(index, list):
            self.copies["to device", where] += 1
        self.operators += 1
        inner = tree_map(_unwrapped, index)
        with torch._C.DisableTorchFunction():
            if name == "__getitem__":
                found = _unwrapped(target)[inner]
                return PretendedTensor(found, self.device) if on_device else found
            value = args[2]
            if isinstance(value, torch.Tensor) and value.dim() > 0 and isinstance(value, PretendedTensor) != on_device:
                if indices:
                    raise _mixed(name, where)
                self.copies["to device" if on_device else "to host", where] += 1
            _unwrapped(target)[inner] = _unwrapped(value)
            return None

    def _moved(self, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        """What ``to``, ``cpu`` and ``cuda`` return; ``None`` where the device has no part in it."""
        x, device, dtype = args[0], kwargs.get("device"), kwargs.get("dtype")
        if name != "to":
            device = torch.device("cpu") if name == "cpu" else self.device
        for each in args[1:]:
            if isinstance(each, torch.Tensor):
                device, dtype = each.device, each.dtype
            elif isinstance(each, torch.dtype):
                dtype = each
            elif isinstance(each, str | torch.device):
                device = torch.device(each)
        from_here = isinstance(x, PretendedTensor)
        to_here = from_here if device is None else self.is_mine(device)
        if not from_here and not to_here:
            return None
        inner = _unwrapped(x)
        options = {k: v for k, v in kwargs.items() if k in ("copy", "memory_format") and v is not None}
        if from_here != to_here:
            options["copy"] = True
            self.copies["to device" if to_here else "to host", _site()] += 1
            if from_here:
                assert not kwargs.get("non_blocking"), f"{_site()} does not wait for what it copies to the host"
                self._synchronized("to host")
            elif not kwargs.get("non_blocking"):
                self.blocking_uploads[_site()] += 1
        with torch._C.DisableTorchFunction():
            result = inner.to(dtype=dtype or inner.dtype, **options)
        if from_here and to_here and result is inner:
            return x
        return self.wrap(result) if to_here else result


@contextmanager
def pretended(kind: str = "cuda", **options: Any) -> Iterator[PretendedDevice]:
    """A pretended device, and a check that nothing on it may have been computed in TF32."""
    with PretendedDevice(kind, **options) as device:
        yield device
    assert not device.tf32, f"computed in TF32: {dict(device.tf32)}"


def tf32(x: torch.Tensor) -> torch.Tensor:
    """Float32 numbers as a tensor core reads them in TF32: to 10 bits, ties to even."""
    if x.dtype != torch.float32:
        return x
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0x0FFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32).view(x.shape)


def _unwrapped(x: Any) -> Any:
    return x.inner if isinstance(x, PretendedTensor) else x


def _mixed(func: Any, where: str) -> DeviceMixError:
    return DeviceMixError(
        f"Expected all tensors to be on the same device, but found at least two devices [{func}] at {where}"
    )


def _site() -> str:
    """The latest line of the project that is on the stack."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if name := _of_the_project(frame.f_code.co_filename):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


@functools.cache
def _of_the_project(filename: str) -> str:
    """The path of a file of the project within it; empty for others and for this one."""
    path = Path(filename)
    inside = path.is_relative_to(ROOT) and "site-packages" not in path.parts and path != Path(__file__)
    return str(path.relative_to(ROOT)) if inside else ""
