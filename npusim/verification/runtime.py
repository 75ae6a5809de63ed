"""The integer program against ONNX Runtime, tensor by tensor: what ``npusim verify`` and ``compare --against ort`` are.

Every tensor is compared for equality. The one freedom that exists, the order in which a float32 sum is rounded, is handled
without any tolerance for integers: behind such an operation each step is given ONNX Runtime's own inputs, and must then
give its outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Final

import numpy as np
import numpy.typing as npt

from npusim.engine.cluster import Cluster, Feeds, Job
from npusim.engine.reference import run_step
from npusim.engine.second_opinion import SETTINGS, RuntimeSetting, SecondOpinion, copies_fused_layers, runtime_version
from npusim.engine.session import InferenceSession
from npusim.engine.tflite_runtimes import TfliteRuntime
from npusim.errors import InputError, InternalMismatchError, ModelError, count
from npusim.graph import Array
from npusim.graph.ranges import EXACT_FLOAT32
from npusim.graph.rounding_limits import is_estimated, is_free, rounding_limit
from npusim.program import Accumulating, Batching, DequantizedSum, HostOperation, IntegerLayer, Program, Step, Table, Weighted
from npusim.program.accumulation import accumulate
from npusim.program.input_stage import DeviceStage
from npusim.program.trace import STEP_KINDS, step_kind
from npusim.schemas.derivation import Choice, Count
from npusim.verification.arithmetic import ElementArithmetic, explain_step, passing_value
from npusim.verification.comparison import Divergence, ExactComparison, Part, Progress, need_samples, over_samples
from npusim.verification.differences import Demand, LayerDifferences

__all__ = [
    "ONNXRUNTIME",
    "Difference",
    "SettingComparison",
    "StepComparison",
    "Verification",
    "compare_with_runtime",
    "verify",
]

ONNXRUNTIME: Final = "onnxruntime"
"""The runtime of ONNX models; those of TensorFlow Lite go by the names of their packages."""

CHUNK: Final = 16
"""Samples compared at once: every tensor of both sides is held in memory, and onnxruntime takes samples one by one anyway."""

FLOAT16_ROUNDING: Final = 2.0**-10
"""Limit for what is computed in float16, relative to its value: one rounding on each side."""

CONSTANTS: Final = "constants"
"""Name of what is compared of constants that nodes compute."""

FOLDING_LIMIT: Final = 2.0**-22
"""Limit for a constant that nodes compute, relative to its value."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first value that breaks the demand.

    Attributes
    ----------
    tensor
        ONNX tensor, an inner one perhaps.
    index
        Position, the sample first.
    npusim, onnxruntime
        Both values.
    """

    tensor: str
    index: tuple[Count, ...]
    npusim: float
    onnxruntime: float


@dataclass(frozen=True, slots=True)
class StepComparison:
    """One step against ONNX Runtime, over all samples and all its tensors.

    Attributes
    ----------
    name
        Name of the ONNX node that gives the layer its kind, made unique.
    tensor
        The ONNX tensor that the layer produces; empty for CONSTANT.
    kind
        Kind of layer; QUANTIZE makes codes of floats, HOST is computed by the host CPU as the graph says. CONSTANT stands for
        the constants that nodes of the graph compute.
    comparison
        exact: every value must be equal. exact_given_inputs: the same on onnxruntime's own inputs, because a float32 sum before
        may be rounded in another order. bounded: a float32 operation whose order of rounding is free; values must agree within
        a limit computed for each.
    elements
        Values compared, inner tensors included.
    mismatches
        Values that break the demand.
    largest_difference
        Of all values compared as demanded, in LSB for integers.
    limit
        For ``bounded``: the largest limit of any element.
    carried
        For the kinds behind a free rounding order: values that differ end to end, because their inputs already do.
    beyond_float32
        Inner values past 2**24 that ONNX Runtime could only hold rounded: integers are right there, float32 cannot be. The
        codes that follow from them are compared like any others.
    first_difference
        Where the demand is first broken.
    rounded
        Why ONNX Runtime has to round there, with the value that makes it; None where it does not.
    estimated
        For ``bounded``: the limit is an estimate of what rounding can do, not a proven bound. So it is for LSTM and GRU.
    """

    json_names: ClassVar[tuple[str, ...]] = (
        *("name", "tensor", "kind", "comparison", "elements", "mismatches", "largest_difference"),
        *("limit=demanded_limit", "estimated", "carried", "beyond_float32", "first_difference"),
    )

    name: str
    kind: Annotated[str, Choice((*STEP_KINDS, "CONSTANT"))]
    tensor: str
    comparison: Demand = "exact"
    elements: Count = 0
    mismatches: Count = 0
    largest_difference: float = 0.0
    limit: float = 0.0
    carried: Count = 0
    beyond_float32: Count = 0
    first_difference: Difference | None = None
    rounded: str | None = None
    estimated: bool = False

    @property
    def demanded_limit(self) -> float | None:
        """For bounded: the largest limit of any element."""
        return self.limit if self.comparison == "bounded" else None


@dataclass(frozen=True, slots=True)
class SettingComparison:
    """The outputs of a file as ONNX Runtime gives them in one of its settings, against those of its kernels one by one.

    Attributes
    ----------
    setting
        What is set.
    optimized
        Whether it fuses layers then.
    reason
        Why the setting makes a difference.
    mismatches
        Output values that differ.
    largest_difference
        Of all of them.
    """

    setting: str
    optimized: bool
    reason: str
    mismatches: Count
    largest_difference: float


@dataclass(slots=True)
class Verification:
    """The result of :func:`verify`; true when everything demanded holds.

    Attributes
    ----------
    samples
        Number of samples compared.
    steps
        One comparison for each step, and first one for the constants that nodes compute, where there are any.
    optimized_mismatches
        Output values at which ONNX Runtime with its graph optimizations differs from itself without.
    outputs
        Number of output values that both gave.
    onnxruntime
        The version of the runtime.
    runtime
        Which runtime was asked: onnxruntime, or the one of TensorFlow Lite that computes in the session's arithmetic.
    settings
        The file itself in settings of onnxruntime, where layers were compared as kernels on codes; empty for others.
    exact_to_the_end
        All steps had to be equal, so that outputs have to be as well.
    """

    samples: int = 0
    steps: list[StepComparison] = field(default_factory=list)
    optimized_mismatches: int = 0
    outputs: int = 0
    onnxruntime: str = ""
    runtime: str = ONNXRUNTIME
    settings: tuple[SettingComparison, ...] = ()
    exact_to_the_end: bool = False

    @property
    def ok(self) -> bool:
        """True when at least one value was compared, none breaks its demand, and the file itself gives the same outputs."""
        return self.elements > 0 and self.mismatches == 0 and not self.contradicted

    @property
    def contradicted(self) -> bool:
        """Whether layers are equal one by one, and yet the file gives other outputs in every setting that fuses layers."""
        fused = [setting for setting in self.settings if setting.optimized]
        return self.exact_to_the_end and bool(fused) and all(setting.mismatches for setting in fused)

    def __bool__(self) -> bool:
        return self.ok

    @property
    def elements(self) -> int:
        """Values compared."""
        return sum(step.elements for step in self.steps)

    @property
    def mismatches(self) -> int:
        """Values that break their demand."""
        return sum(step.mismatches for step in self.steps)

    def __str__(self) -> str:
        exact = sum(step.comparison != "bounded" for step in self.steps)
        verdict = "equal" if self.ok else f"{self.mismatches} of {self.elements} values differ"
        seen = f"{count(self.elements, 'value')}, {count(self.samples, 'sample')}"
        return f"{verdict}: {count(len(self.steps), 'step')} ({exact} exact), {seen}"


def verify(
    session: InferenceSession,
    feeds: Mapping[str, Array],
    *,
    cluster: Cluster | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Compare a model's integer program with ONNX Runtime on every tensor, or with a runtime of TensorFlow Lite.

    Parameters
    ----------
    session
        The model, planned.
    feeds
        Inputs by name, samples on the first axis.
    cluster
        Workers that compute; None for this process.
    progress
        Called with the number of samples done and the number of all.

    Raises
    ------
    ModelError
        If ONNX Runtime refuses the model.
    InputError
        If the inputs do not fit the model.
    InternalMismatchError
        If a tensor has another shape here than in ONNX Runtime.
    """
    if session.format == "tflite":
        return _verify_tflite(session, feeds, cluster, progress)
    result = Verification(onnxruntime=runtime_version())
    pairs = _Pairs(session.program)
    job = Job(_pairing, (session,), (True,))
    for found in over_samples(job, session.program, feeds, size=CHUNK, cluster=cluster, progress=progress):
        pairs.found.merge(found)
    result.samples, result.outputs = pairs.found.samples, pairs.found.outputs
    result.optimized_mismatches = pairs.found.optimized_mismatches
    result.steps = pairs.comparisons()
    if copies_fused_layers(session):
        settings = [setting for setting in SETTINGS if setting.applies(differs=result.optimized_mismatches > 0)]
        settled = [_in_setting(session, setting, feeds, pairs.found.computed) for setting in settings]
        result.settings = tuple(part for part in settled if part is not None)
        result.exact_to_the_end = all(step.comparison == "exact" or step.kind == "CONSTANT" for step in result.steps)
    return result


@dataclass(frozen=True, slots=True, eq=False)
class _Computed:
    """The outputs that onnxruntime gave tensor by tensor, of some samples."""

    start: int
    samples: int
    outputs: Mapping[str, Array]


def _in_setting(
    session: InferenceSession, setting: RuntimeSetting, feeds: Feeds, computed: Sequence[_Computed]
) -> SettingComparison | None:
    """The outputs of the file itself, as onnxruntime gives them in a setting; None where it refuses the file then."""
    try:
        runtime = SecondOpinion.original(session, setting)
    except ModelError:
        return None
    fixed = session.program.batching is Batching.FIXED
    mismatches, largest = 0, 0.0
    for part in computed:
        rows = slice(None) if fixed else slice(part.start, part.start + part.samples)
        for name, values in runtime.run({name: array[rows] for name, array in feeds.items()}).items():
            if name in part.outputs:
                wanted = part.outputs[name]
                gap = np.abs(values.astype(np.float64) - wanted.astype(np.float64))
                mismatches += int(np.count_nonzero(values != wanted))
                largest = max(largest, float(gap.max(initial=0.0)))
    return SettingComparison(setting.name, setting.optimized, setting.reason, mismatches, largest)


@dataclass(slots=True)
class _Paired:
    """What was found on some samples.

    Attributes
    ----------
    samples
        How many.
    rows
        The tensors of each step.
    constants
        What nodes compute that depends on no input; with the first sample only.
    kept
        For each tensor that differs, onnxruntime's tensors of its step at the first sample at which it does.
    outputs, optimized_mismatches
        As for :class:`Verification`.
    computed
        Outputs to compare with those in other settings, where that is asked for.
    """

    samples: int
    rows: list[list[LayerDifferences]]
    constants: list[LayerDifferences] = field(default_factory=list)
    kept: dict[str, dict[str, Array]] = field(default_factory=dict)
    outputs: int = 0
    optimized_mismatches: int = 0
    computed: list[_Computed] = field(default_factory=list)

    def merge(self, other: _Paired) -> None:
        """Add what was found on others; the order does not matter."""
        for rows, found in zip(self.rows, other.rows, strict=True):
            for row, one in zip(rows, found, strict=True):
                row.merge(one)
                if row.first is not None and row.first is one.first:
                    self.kept[row.tensor] = other.kept[row.tensor]
        self.constants.extend(other.constants)
        self.samples += other.samples
        self.outputs += other.outputs
        self.optimized_mismatches += other.optimized_mismatches
        self.computed.extend(other.computed)


def _pairing(session: InferenceSession, with_optimized: bool) -> Callable[[Feeds, int], _Paired]:
    """The comparison of every tensor of the program on both sides, on a part of the samples."""
    program = session.program
    known = [name for name in program.tensors if name not in program.inputs]
    fixed = [name for name in known if program.resolve(name) in program.constants]
    runtime = SecondOpinion.of(session, known, constants=fixed)
    optimized = SecondOpinion.of(session, optimized=True) if with_optimized else None
    has_settings = with_optimized and copies_fused_layers(session)

    def take(feeds: Feeds, start: int) -> _Paired:
        samples = 1 if program.batching is Batching.FIXED or not feeds else len(next(iter(feeds.values())))
        part = Part(start, samples, feeds, session.trace(feeds, "*"), {**runtime.run(feeds), **feeds})
        pairs = _Pairs(program)
        pairs.take(part)
        found = pairs.found
        for name, values in {} if optimized is None else optimized.run(feeds).items():
            if name in program.outputs:
                found.outputs += values.size
                found.optimized_mismatches += int((values != part.theirs[name]).sum())
        if has_settings:
            found.computed.append(_Computed(start, samples, {name: part.theirs[name] for name in program.outputs}))
        return found

    return take


def _verify_tflite(
    session: InferenceSession, feeds: Mapping[str, Array], cluster: Cluster | None, progress: Progress | None
) -> Verification:
    """Compare a TensorFlow Lite model with the runtime of its arithmetic, on every tensor that the runtime gives."""
    runtime = TfliteRuntime(session.model, session.arithmetic)
    result = Verification(onnxruntime=runtime.version, runtime=runtime.package)
    whole: _TfliteCodes | None = None
    job = Job(_asking_tflite, (session,))
    for found in over_samples(job, session.program, feeds, size=CHUNK, cluster=cluster, progress=progress):
        if whole is None:
            whole = found
        else:
            whole.merge(found)
    if whole is not None:
        result.samples, result.steps = whole.samples, list(whole.steps.values())
    return result


@dataclass(slots=True)
class _TfliteCodes:
    """The comparison of each step by its tensor, on some samples."""

    samples: int
    steps: dict[str, StepComparison]

    def merge(self, other: _TfliteCodes) -> None:
        """Add those of other samples."""
        self.samples += other.samples
        for name, one in other.steps.items():
            self.steps[name] = _both(self.steps[name], one) if name in self.steps else one


def _both(one: StepComparison, other: StepComparison) -> StepComparison:
    firsts = [found for found in (one.first_difference, other.first_difference) if found is not None]
    return replace(
        one,
        elements=one.elements + other.elements,
        mismatches=one.mismatches + other.mismatches,
        largest_difference=max(one.largest_difference, other.largest_difference),
        first_difference=min(firsts, key=lambda found: found.index[0], default=None),
    )


def _asking_tflite(session: InferenceSession) -> Callable[[Feeds, int], _TfliteCodes]:
    """The comparison of a part of the samples with what the runtime gives."""
    runtime = TfliteRuntime(session.model, session.arithmetic)

    def take(feeds: Feeds, start: int) -> _TfliteCodes:
        theirs = runtime.run(feeds)
        trace = session.trace(feeds, [name for name in theirs if name in session.program.tensors])
        results = {step.tensors[-1]: step for step in session.program.steps}
        found = {
            name: _with_codes(step, trace[name], theirs[name], start)
            for name, step in results.items()
            if name in theirs and name in trace
        }
        return _TfliteCodes(len(next(iter(feeds.values()))), found)

    return take


def _with_codes(step: Step, mine: Array, theirs: Array, start: int) -> StepComparison:
    """A step on some samples; every code has to be equal."""
    if mine.shape != theirs.shape:
        raise InternalMismatchError(
            f"tensor '{step.tensors[-1]}' has shape {mine.shape} here and {theirs.shape} in the runtime; please report this"
        )
    gap = np.abs(mine.astype(np.float64) - theirs.astype(np.float64))
    first = None
    if gap.any():
        place = tuple(int(at) for at in np.argwhere(gap)[0])
        index = (place[0] + start, *place[1:])
        first = Difference(step.tensors[-1], index, float(mine[place]), float(theirs[place]))
    return StepComparison(
        step.name,
        step_kind(step),
        step.tensors[-1],
        elements=gap.size,
        mismatches=int(np.count_nonzero(gap)),
        largest_difference=float(gap.max(initial=0.0)),
        first_difference=first,
    )


def compare_with_runtime(
    session: InferenceSession,
    feeds: Mapping[str, Array],
    *,
    cluster: Cluster | None = None,
    progress: Progress | None = None,
) -> ExactComparison:
    """Compare a model's codes with those that onnxruntime computes in float32 from the same graph, without optimizations.

    What is compared, and what is demanded, is the same as for :func:`verify`, and so is the verdict. The result lists the codes
    of layers, outputs and sums of floats; other tensors only where they differ and what they lead to does not.

    Parameters
    ----------
    session
        The model.
    feeds
        Inputs by name, samples on the first axis.
    cluster
        Workers that compute; None for this process.
    progress
        Called after each part of the samples.

    Raises
    ------
    InputError
        If the inputs do not fit the model.
    ModelError
        If onnxruntime refuses the model.
    """
    need_samples(session.program, feeds)
    pairs = _Pairs(session.program)
    result = ExactComparison(("npusim", f"onnxruntime {runtime_version()}"))
    job = Job(_pairing, (session,), (False,))
    for found in over_samples(job, session.program, feeds, size=CHUNK, cluster=cluster, progress=progress):
        pairs.found.merge(found)
    result.samples = pairs.found.samples
    result.layers = pairs.listed()
    if not result.elements:
        raise InputError(f"{session.model.label} has no integer layer to compare with onnxruntime's")
    first = result.first_differing
    if first is not None:
        result.divergence = pairs.divergence(first, result.names)
    return result


class _Pairs:
    """Every tensor of a program held against ONNX Runtime's; `found` is what is, on some samples or merged of many."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._steps: list[tuple[Step, list[LayerDifferences]]] = []
        free: set[str] = set()
        for step in program.steps:
            if isinstance(step, DeviceStage):
                # its codes are given to onnxruntime, which computes the stage as the graph is written
                continue
            behind = any(name in free for name in program.inputs_of(step))
            loose = _is_loose(step, program)
            half = program.computes_in_float16(step)
            if (loose or behind) and not half:
                free.update(step.tensors)
            demand = "bounded" if loose or half else "exact_given_inputs" if behind else "exact"
            rows = [LayerDifferences(step.name, step_kind(step), name, comparison=demand) for name in step.tensors]
            self._steps.append((step, rows))
        self.found = _Paired(0, [rows for _, rows in self._steps])

    def take(self, part: Part) -> None:
        """Compare all tensors of the first samples taken."""
        self.found.samples = part.samples
        if part.start == 0:
            self._take_constants(part)
        for step, rows in self._steps:
            self._take_step(step, rows, part)
            for row in rows:
                if row.first is not None:
                    at = row.first.sample - part.start
                    names = (*self._program.inputs_of(step), *step.tensors)
                    self.found.kept[row.tensor] = {name: _of_sample(part.theirs[name], at, part.samples) for name in names}

    def comparisons(self) -> list[StepComparison]:
        """The comparison of each step; that of constants first, where nodes compute any."""
        fixed = self._program.batching is Batching.FIXED
        constants = [_summary(CONSTANTS, "CONSTANT", "", self.found.constants, fixed=True)] if self.found.constants else []
        return [
            *constants,
            *(
                replace(
                    _summary(step.name, step_kind(step), step.tensors[-1], rows, fixed=fixed),
                    rounded=self._rounded(step, rows),
                    estimated=isinstance(step, HostOperation) and is_estimated(step.node),
                )
                for step, rows in self._steps
            ),
        ]

    def listed(self) -> list[LayerDifferences]:
        """The rows of a comparison of codes, in execution order."""
        outputs = {self._program.resolve(name) for name in self._program.outputs}
        found = [row for row in self.found.constants if row.mismatches]
        for step, rows in self._steps:
            host = isinstance(step, HostOperation) and rows[0].comparison != "bounded" and not outputs & set(step.tensors)
            codes = [] if host or not rows[-1].elements else [rows[-1]]
            inner = [row for row in rows[: len(rows) - len(codes)] if row.mismatches]
            found.extend(codes if any(row.mismatches for row in codes) else [*inner, *codes])
        return found

    def divergence(self, row: LayerDifferences, names: tuple[str, str]) -> Divergence:
        """The first difference with npusim's arithmetic and onnxruntime's inner values.

        Everything before the first layer that differs is equal (or given), so that onnxruntime's inputs are npusim's.
        """
        program = self._program
        step, rows = next(((step, rows) for step, rows in self._steps if any(row is one for one in rows)), (None, []))
        if step is None:
            return Divergence(row, names=names)
        rounded, arithmetic = self._rounded(step, rows), self._arithmetic(step, row)
        if row.first is None or arithmetic is None:
            return Divergence(row, names=names, rounded=rounded)
        values, inner = self.found.kept[row.tensor], {}
        flat = int(np.ravel_multi_index(row.first.index, program.tensors[row.tensor].shape[1:]))
        if isinstance(step, IntegerLayer):
            inner = {tensor: float(values[tensor].reshape(-1)[flat]) for tensor in step.tensors if values[tensor].size > flat}
        return Divergence(row, arithmetic, other_values=inner, names=names, rounded=rounded)

    def _arithmetic(self, step: Step, row: LayerDifferences) -> ElementArithmetic | None:
        """The model's arithmetic at the first difference of a tensor; None where the host computes it or shapes part."""
        program = self._program
        if row.first is None or isinstance(step, HostOperation):
            return None
        values = self.found.kept[row.tensor]
        shape, inner_shape = (program.tensors[name].shape[1:] for name in (step.tensors[-1], row.tensor))
        if np.prod(shape) != np.prod(inner_shape):
            return None
        flat = int(np.ravel_multi_index(row.first.index, inner_shape))
        index = tuple(int(item) for item in np.unravel_index(flat, shape))
        inputs = {name: _held(program, name, values[name]) for name in program.inputs_of(step)}
        return explain_step(program, step, inputs, row.first.sample, index)

    def _rounded(self, step: Step, rows: Sequence[LayerDifferences]) -> str | None:
        """Why ONNX Runtime rounds at the first difference of a step, with the value that makes it; None where it does not."""
        row = min((row for row in rows if row.first is not None), key=_sample_of, default=None)
        if row is None:
            return None
        element = self._arithmetic(step, row)
        passing = None if element is None else passing_value(element, EXACT_FLOAT32)
        if passing is None:
            return None
        what, value = passing
        return (
            f"its {what} is {value:,} there, past 2^24, where onnxruntime's float32 has to round and the device's integers do "
            "not: rely on npusim's values, and keep such layers in mind when onnxruntime is the reference"
        )

    def _take_constants(self, part: Part) -> None:
        program = self._program
        produced = {name for step in program.steps for name in step.tensors}
        for name, values in part.ours.items():
            computed = name not in produced and name not in program.inputs and name not in program.aliases
            if computed and name in part.theirs and values.size:
                row = LayerDifferences(CONSTANTS, "CONSTANT", name, comparison="bounded")
                limits = np.abs(np.asarray(values, np.float64)) * FOLDING_LIMIT
                _take(row, values, part.theirs[name], 0, 0, limits=limits)
                self.found.constants.append(row)

    def _take_step(self, step: Step, rows: Sequence[LayerDifferences], part: Part) -> None:
        program = self._program
        values: Mapping[str, Array] = part.ours
        half = program.computes_in_float16(step)
        given = rows[0].comparison != "exact" and not half
        inputs: dict[str, Array] = {}
        if given:
            inputs = {name: _held(program, name, part.theirs[name]) for name in program.inputs_of(step)}
            computed = run_step(program, step, inputs, set(step.tensors))
            values = {name: program.tensors[name].as_shown(held) for name, held in computed.items()}
        for row in rows:
            ours, theirs = values[row.tensor], part.theirs[row.tensor]
            limits = _limits(program, step, inputs, ours) if row.comparison == "bounded" and not half else None
            if half:
                # what onnxruntime hands over is rounded to float16 and may be infinite then, what it computes with is not
                with np.errstate(over="ignore"):
                    ours, theirs = (np.asarray(side.astype(theirs.dtype), np.float32) for side in (ours, theirs))
                limits = np.abs(ours.astype(np.float64)) * FLOAT16_ROUNDING
            beyond = _beyond_float32(step, row.tensor, ours)
            _take(row, ours, theirs, part.start, part.samples, limits=limits, beyond=beyond)
            row.carried += int((part.ours[row.tensor] != theirs).sum()) if given else 0


def _take(
    row: LayerDifferences,
    ours: Array,
    theirs: Array,
    start: int,
    samples: int,
    *,
    limits: npt.NDArray[np.float64] | None = None,
    beyond: npt.NDArray[np.bool_] | None = None,
) -> None:
    if ours.shape != theirs.shape:
        raise InternalMismatchError(
            f"tensor '{row.tensor}' has shape {list(ours.shape)} here and {list(theirs.shape)} in onnxruntime"
        )
    if ours.size:
        row.take(ours, theirs, start, samples=samples, limits=limits, beyond=beyond)


def _summary(name: str, kind: str, tensor: str, rows: Sequence[LayerDifferences], *, fixed: bool) -> StepComparison:
    """What is said of a step, from its tensors; `fixed` where their first axis is none of samples."""
    earliest = min((row for row in rows if row.first is not None), key=_sample_of, default=None)
    first = None
    if earliest is not None and earliest.first is not None:
        place = earliest.first
        index = place.index if fixed else (place.sample, *place.index)
        first = Difference(earliest.tensor, index, place.value, place.other)
    return StepComparison(
        name,
        kind,
        tensor,
        rows[0].comparison,
        elements=sum(row.elements for row in rows),
        mismatches=sum(row.mismatches for row in rows),
        largest_difference=max(row.largest for row in rows),
        limit=max(row.limit for row in rows),
        carried=sum(row.carried for row in rows),
        beyond_float32=sum(row.beyond_float32 for row in rows),
        first_difference=first,
    )


def _sample_of(row: LayerDifferences) -> int:
    return 0 if row.first is None else row.first.sample


def _of_sample(values: Array, at: int, samples: int) -> Array:
    """The values of one of some samples, without the sample axis where there is one."""
    return values[at] if values.shape[:1] == (samples,) else values


def _is_loose(step: Step, program: Program) -> bool:
    """Whether a step sums up floats, or computes a function of them, which onnxruntime may round in another order."""
    if isinstance(step, Accumulating):
        return isinstance(step.requantization, DequantizedSum)
    if isinstance(step, Table):
        return step.spread is not None
    return isinstance(step, HostOperation) and is_free(step.node) and not program.tensors[step.tensors[0]].is_integer


def _limits(program: Program, step: Step, inputs: Mapping[str, Array], result: Array) -> npt.NDArray[np.float64] | None:
    """How far apart two correct results of an operation may lie, given its inputs."""
    if isinstance(step, Accumulating) and isinstance(step.requantization, DequantizedSum):
        codes = [inputs[name].astype(np.int64) for name in step.inputs]
        weights = np.abs(step.weights) if isinstance(step, Weighted) else None
        magnitudes = accumulate(step, [np.abs(part) for part in codes], weights)
        terms = step.weight_rows.shape[1] if isinstance(step, Weighted) else step.input_shape[-1]
        found = step.requantization.rounding_limit(accumulate(step, codes), magnitudes, terms, step.channel_axis)
        return found.reshape(result.shape)
    if isinstance(step, Table) and step.spread is not None:
        return step.spread[inputs[step.inputs[0]].astype(np.int64) - step.lowest].astype(np.float64)
    if not isinstance(step, HostOperation):
        return None
    constants = {name: program.constants[name] for name in step.node.inputs if name in program.constants}
    declared = {
        name: values if name in program.constants else program.tensors[name].as_declared(values)
        for name, values in inputs.items()
    }
    return rounding_limit(step.node, {**constants, **declared}, result, program.opset)


def _held(program: Program, name: str, values: Array) -> Array:
    """A tensor that onnxruntime gave as layers compute on it."""
    return program.tensors[name].as_held(values).astype(program.tensors[name].stored, copy=False)


def _beyond_float32(step: Step, tensor: str, values: Array) -> npt.NDArray[np.bool_] | None:
    """Where an inner tensor of a layer stands for an integer past 2**24, so that a float32 runtime has rounded on the way."""
    if not isinstance(step, Accumulating):
        return None
    tap = next((tap for tap in step.taps if tap.tensor == tensor), None)
    return None if tap is None else tap.is_beyond(values, EXACT_FLOAT32, step.channel_axis)
