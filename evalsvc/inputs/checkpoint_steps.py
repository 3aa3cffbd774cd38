"""Inference of the training step from a file name. Pure functions of the name; no file is opened.

A number is a step if a keyword precedes or follows it (``step``, ``iter``, ``global_step``, ``checkpoint``, ``epoch``,
in this order of priority), or if it is the only number at the end of a plain name (``gan_4000.pt``). Other numbers are
losses, decay rates, resolutions, seeds, versions or sizes. Ambiguous names have no step and the caller must pass one: a
wrong step would put two checkpoints under one label.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LARGEST_STEP = 2**63 - 1

SUFFIX = re.compile(
    r"(?:\.(?:safetensors|pt|pth|pt2|ckpt|bin|pkl|pickle|npz|npy|zip|tar|tgz|gz|bz2|xz|7z|h5|hdf5|gguf|ggml|onnx|msgpack"
    r"|jsonl?|csv|tsv|txt|parquet|tfrecords?|index|meta|mp4|wav|weights|model|state))+$",
    re.IGNORECASE,
)
"""File suffixes. Text after any other dot belongs to the name (``Qwen2.5-0.5B``, ``model.step1000``)."""

_VALUE = r"[-+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?[km%]?(?![a-z0-9])"
_BETWEEN = r"(?:[=:#]|__|--|[-_. ]?)"
_KEYS = {
    "step": r"steps?",
    "iter": r"iter(?:ation)?s?|itr",
    "global_step": r"global[-_]?steps?|updates?",
    # fairseq writes checkpoint_EPOCH_UPDATE; before three digits the underscore could also be a thousands separator.
    "checkpoint": r"checkpoint(?:_\d+(?=_(?:\d{1,2}|\d{4,})(?![\d_])))?|ckpt|snapshot|kimg|ticks?",
    "epoch": r"epochs?|ep",
}
"""Keywords before a step, by priority."""
_METRICS = (
    r"loss|acc|accuracy|err(?:or)?|fid|kid|is|psnr|ssim|lpips|bleu|rouge|ppl|perplexity|nll|bpb|bpd|elbo|kl|mse|mae|rmse"
    r"|auc|f1|iou|score|reward|precision|recall|wer|cer|val|metric"
)
_SETTINGS = (
    r"top|best|seed|rng(?:[-_]state)?|lr|wd|bs|batch(?:[-_]size)?|temp|temperature|cfg|guidance|scale|dropout|decay|beta|gamma|alpha"
    r"|sigma|momentum|dim|width|depth|layers?|heads?|hidden|latent|size|res|resolution|crop|patch|ctx|context|seq|len"
    r"|length|vocab|tokens?|samples?|images|imgs|generated|fake|real|num|n|every|gpus?|cuda|nodes?|world|rank|tp|pp|dp|mp|fold|split|shard|part"
    r"|fsdp|worker|run|trial|exp|experiment|version|ver|rev|fp|bf|int|float|uint"
)


def _compile(*patterns: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)


_BESIDE_STEP = _compile(
    r"(?<=\d)[-_ ]?of[-_ ]?\d+",
    rf"(?<![a-z])(?:(?:val|valid|test|train|best|min|max|avg)[-_])?(?:{_METRICS}){_BETWEEN}{_VALUE}",
)
"""Totals and metrics, which change from step to step."""
_NEVER = _compile(
    r"0\d{4}[-_]of[-_]\d{5}",  # one shard of many
    r"\d+x\d+(?:x\d+)*(?![a-z0-9])",
    r"(?<![a-z])(?:warmup|total|max|min|num|n|ddim|sampling|inference|diffusion|denoising|accum|lcm|per)[-_ ]?"
    rf"(?:train(?:ing)?[-_ ]?)?(?:{_KEYS['step']}|{_KEYS['iter']}|{_KEYS['epoch']}){_BETWEEN}\d+",
    rf"(?<![a-z])(?!(?:{'|'.join(_KEYS.values())})=)[a-z]+={_VALUE}",
    rf"(?<![a-z])(?:{_SETTINGS}){_BETWEEN}{_VALUE}(?!_000|[-_]\d\d[-_]\d\d(?!\d)|[-_ ]?(?:steps|iter|epochs|kimg))",
)
_NEVER_ALONE = _compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    r"(?<!\d)(?:19|20)\d\d[-_.]?[01]\d[-_.]?[0-3]\d(?:[-_t]\d\d[-_.:]?\d\d[-_.:]?\d\d(?![-_.]?\d))?(?!\d)",
    r"(?<!\d)20[12][1-9](?!\d)",  # a year
    r"(?<!\d)[1-9]\d{9,}(?!\d)",  # seconds since 1970, or an id
    r"(?<![a-z])v\d+(?:\.\d+)*(?:[-_]\d{1,2}(?!\d))?",
    r"(?<![a-z0-9])i?q\d(?:_\d|_k(?:_[sml])?|_xx?s|_nl)?(?![a-z0-9])",  # quantization
    r"\d+(?:\.\d+)?[bm](?![a-z0-9])",  # parameters
    r"\d+\.\d+",
)
"""Numbers that are steps only with a keyword."""

_DIGITS = (
    r"(?:(?P<grouped>[1-9]\d{0,2}(?:(?:[_,]\d{3})*[_,]000(?!\d|[_,]\d{3}(?![a-z0-9]))|(?:[_,]\d{3})+(?![_,]?\d)))"
    r"|(?P<power>\d+(?:\.\d+)?e\+?\d{1,2})|(?P<short>\d+(?:\.\d+)?)(?P<unit>[km])"
    r"|(?P<plain>\d{4,}|\d{1,3}(?!\d|[_,]\d{3}(?![a-z0-9]))))"
)
"""A number, unless it is short and followed by three digits, which could be its thousands."""
_NUMBER = re.compile(rf"{_DIGITS}(?![a-z0-9]|[.,]\d)", re.IGNORECASE)
_KEY = re.compile(
    rf"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))(?i:{'|'.join(f'(?P<{key}>{words})' for key, words in _KEYS.items())})"
    rf"{_BETWEEN}(?=[-+]?\d)"
)
_COUNTED = re.compile(
    rf"(?<![a-z0-9.]){_DIGITS}[-_ ]?(?:(?P<step>steps?)|(?P<iter>iter(?:ation)?s?)"
    r"|(?P<global_step>updates?)|(?P<checkpoint>kimg)|(?P<epoch>epochs?))(?![a-z])",
    re.IGNORECASE,
)
_COUNT = re.compile(r"(?<![a-z0-9.])\d+[km]?(?P<apart>[-_ ]?)$", re.IGNORECASE)
SAMPLING_STEPS = 100
"""``4step`` and ``50-steps`` are sampling steps. From this value on, a number before ``steps`` is a training step."""

_SIZES = {96, 192, 224, 336, 384, 448, 640, 768, *(2**power for power in range(6, 17))}
_KILO_SIZES = {1, 2, 4, 8, 16, 22, 24, 32, 44, 48, 64, 96, 128, 256}
"""Context lengths, sample rates and screen resolutions that are written with a k."""
_PLAIN = r"model|weights|params|net|g|d|gen|generator|discriminator|ema|opt|state"
"""Words after which a number counts checkpoints, regardless of its size."""
_ASIDE = rf"{_PLAIN}|best|last|final|latest|raw|half|full|pruned|fp16|bf16|fp32|inference|averaged|avg"


@dataclass(frozen=True)
class StatedStep:
    """A step; ``keyed`` if a keyword precedes it; ``spans`` of the characters that belong to steps."""

    step: int
    keyed: bool
    spans: tuple[tuple[int, int], ...]


def step_from_name(path: Path) -> int | None:
    """Training step in the name of a file or folder, or None if it has none or is ambiguous."""
    stated = find_step(path.name)
    return stated.step if stated else None


def find_step(name: str) -> StatedStep | None:
    """The step in a name, and its position."""
    stem = SUFFIX.sub("", name)
    text = _blank(stem, *_NEVER, *_BESIDE_STEP)
    keyed = _keyed(text)
    for key in _KEYS:
        if stated := keyed.get(key):
            steps = {step for step, _ in stated}
            spans = tuple(span for each in keyed.values() for _, span in each)
            return _stated(steps.pop(), spans, keyed=True) if len(steps) == 1 else None
    return _alone(_blank(text, *_NEVER_ALONE), is_file=stem != name)


def read_number(text: str) -> int | None:
    """Parse an integer in a name: ``4000``, ``004000``, ``10k``, ``1.5M``, ``1e5``, ``1_000_000``, ``1,000``."""
    match = _NUMBER.fullmatch(text)
    return _whole(match) if match else None


def without_step(name: str) -> str:
    """A name without its suffix and without the parts about the step (``gan_step-4000_fid=3`` becomes ``gan``)."""
    text = _blank(SUFFIX.sub("", name), *_BESIDE_STEP)
    for start, end in stated.spans if (stated := find_step(name)) else ():
        text = text[:start] + "~" * (end - start) + text[end:]
    return re.sub(r"([-_. ]?)[-_. ]*~[-_. ~]*", r"\1", text).strip("-_. ")


def has_loose_number(name: str) -> bool:
    """Whether a name contains a standalone number without a keyword."""
    return bool(_standing(_explained(name)))


def words_of(name: str) -> list[str]:
    """The words of a name in lower case, without losses, versions, sizes and similar."""
    return _words(_explained(name))


def _explained(name: str) -> str:
    return _blank(SUFFIX.sub("", name), *_NEVER, *_BESIDE_STEP, *_NEVER_ALONE)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+\d*", text.lower())


def _blank(text: str, *patterns: re.Pattern[str]) -> str:
    """The text with each matched character replaced by ``~``."""
    for pattern in patterns:
        text = pattern.sub(lambda match: "~" * len(match[0]), text)
    return text


def _keyed(text: str) -> dict[str, list[tuple[int | None, tuple[int, int]]]]:
    """Steps and spans by keyword; None for ambiguous numbers (``step=-1``, ``step_3_500``)."""
    stated: dict[str, list[tuple[int | None, tuple[int, int]]]] = {}
    left = text
    for match in _KEY.finditer(text):
        if _is_counted(left[: match.start()], match[str(match.lastgroup)]):
            continue
        number = _NUMBER.match(text, match.end())
        step = _whole(number, sure=match[0].endswith("=")) if number else None
        span = (match.start(), number.end() if number else match.end())
        stated.setdefault(str(match.lastgroup), []).append((step, span))
        left = left[: span[0]] + "~" * (span[1] - span[0]) + left[span[1] :]
    for match in _COUNTED.finditer(left):
        step = _whole(match, sure=False)
        if step is not None and (step >= SAMPLING_STEPS or not match["step"]):
            stated.setdefault(str(match.lastgroup), []).append((step, match.span()))
    return stated


def _is_counted(before: str, key: str) -> bool:
    """Whether the number before a keyword belongs to it, and not the number after it: ``4000steps``, ``10k_iters``."""
    number = _COUNT.search(before)
    return number is not None and (not number["apart"] or key.lower().endswith("s"))


def _alone(text: str, *, is_file: bool) -> StatedStep | None:
    """The only number of a name without keywords, if it can only be a count."""
    standing = _standing(text)
    if len(standing) != 1:
        return None
    ((number, word, mark),) = standing
    step, rest = _whole(number, sure=False), _words(text[number.end() :])
    if step is None or not set(mark) <= set("-_.~") or not all(re.fullmatch(_ASIDE, word) for word in rest):
        return None
    if not (re.fullmatch(_PLAIN, word) or number.start() == 0):
        # phi-2, DeepSeek-R1-0528, ffhq_256 and longchat_16k name models; gan_2, gan-0500.pt and gan_10k count.
        version = mark.endswith("-") and not (is_file and (step >= 100 or number[0].startswith("0")))
        kilo = (number["unit"] or "").lower() == "k" and step // 1000 in _KILO_SIZES
        if version or kilo or step in _SIZES:
            return None
    return _stated(step, [number.span()], keyed=False)


def _standing(text: str) -> list[tuple[re.Match[str], str, str]]:
    """The standalone numbers, with the word before them and the separator.

    Five digits may follow a word for any checkpoint without a separator (``model050000.pt``).
    """
    standing = []
    for number in _NUMBER.finditer(text):
        _, word, mark = re.split(r"([a-z]*)([^a-z0-9]*)$", text[: number.start()].lower(), maxsplit=1)[:3]
        word = "" if "~" in mark else word
        attached = not mark and number.start() > 0
        if not attached or (re.fullmatch(_PLAIN, word) and len(number["plain"] or "") >= 5):
            standing.append((number, word, mark))
    return standing


def _stated(step: int | None, spans: Iterable[tuple[int, int]], *, keyed: bool) -> StatedStep | None:
    return None if step is None or step > LARGEST_STEP else StatedStep(step, keyed, tuple(spans))


def _whole(number: re.Match[str], *, sure: bool = True) -> int | None:
    """Value of a number; underscores must be ``sure`` to separate thousands, or be followed by 000."""
    if grouped := number["grouped"]:
        return int(re.sub("[_,]", "", grouped)) if sure or "," in grouped or grouped.endswith("000") else None
    if plain := number["plain"]:
        return int(plain) if len(plain) < 20 else None
    value = float(number["power"] or number["short"]) * {"k": 1e3, "m": 1e6}.get((number["unit"] or "").lower(), 1)
    return round(value) if value < LARGEST_STEP and abs(value - round(value)) < 1e-6 else None
