"""How fast npusim is beside onnxruntime and onnx's ReferenceEvaluator, measured side by side in one run.

    python benchmarks/speed.py            everything: a table on stdout
    python benchmarks/speed.py --short    two networks
    python benchmarks/speed.py --write    everything, written to benchmarks/RESULTS.md
    python benchmarks/speed.py --means --batch 512    geometric means only, of one number of samples

It needs the real exports: ../shared/models beside the project, or the folder that NPUSIM_EXPORTS names. All contenders take
turns, repetition by repetition, with a rest between them; what counts are medians and their ratios. On processors with
AVX-512 it sets OPENBLAS_CORETYPE as npusim's command line does, unless it is set already; where those kernels run, batches of
512 are measured once more with the AVX2 kernels that other processors have.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from npusim.cli.processor import prefer_wide_kernels

prefer_wide_kernels()

import numpy as np  # noqa: E402 - after the choice of BLAS kernels
import onnx  # noqa: E402
from measuring import blas_kernels, geometric_mean, machine, medians  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402
from zoo import EXPORTS, Export, contenders, with_batch, zoo  # noqa: E402

import npusim  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
COMPUTE_BOUND = ("MOBILENET", "LENET5", "DSCNN")
BATCHES = (1, 32, 512)


REPETITIONS = 7
AVX2 = "Haswell"
"""OpenBLAS's name for its AVX2 kernels."""


def measure_zoo(exports: list[Export], batches: tuple[int, ...]) -> tuple[list[str], list[str]]:
    """Geometric means of the ratios, and the table of all of them."""
    lines = []
    means: dict[tuple[int, int], dict[str, list[tuple[bool, float]]]] = {}
    for threads in (1, 2):
        for count in batches:
            lines += [
                "",
                f"### Batch {count}, {threads} thread{'s' if threads > 1 else ''} each (sample by sample: its defaults)",
                "",
                "| export | us per sample | onnxruntime sample by sample | onnxruntime, batch rewritten |",
                "|---|---:|---:|---:|",
            ]
            for export in exports:
                found = medians(contenders(export, count, threads), REPETITIONS)
                ratios = {name: found[name] / found["npusim"] for name in ("single", "batched")}
                for name, ratio in ratios.items():
                    means.setdefault((threads, count), {}).setdefault(name, []).append((export.is_two_dimensional, ratio))
                microseconds = found["npusim"] / count * 1e6
                lines.append(f"| {export.name} | {microseconds:.2f} | {ratios['single']:.2f}x | {ratios['batched']:.2f}x |")
                print(lines[-1], file=sys.stderr)
    return summary(means), lines


def summary(means: dict[tuple[int, int], dict[str, list[tuple[bool, float]]]]) -> list[str]:
    """Geometric means over all, the one-dimensional and the two-dimensional networks, with the smallest ratio of each."""
    lines = [
        "",
        "| batch | threads | against | all | 1-D networks | 2-D networks |",
        "|---:|---:|---|---:|---:|---:|",
    ]
    labels = {"single": "onnxruntime sample by sample, its defaults", "batched": "onnxruntime, batch rewritten"}
    for (threads, count), by_name in means.items():
        for name, entries in by_name.items():
            groups = [[ratio for flat, ratio in entries if flat in wanted] for wanted in ((False, True), (False,), (True,))]
            cells = [f"{geometric_mean(group):.2f}x ({min(group):.2f}x)" if group else "-" for group in groups]
            lines.append(f"| {count} | {threads} | {labels[name]} | {' | '.join(cells)} |")
    return lines


def measure_avx2_kernels(short: bool) -> list[str]:
    """Geometric means for batches of 512 with the kernels of processors without AVX-512, in a process of its own."""
    if f"its {AVX2}" in blas_kernels():
        return []
    command = [sys.executable, __file__, "--means", "--batch", "512", *(["--short"] if short else [])]
    environment = {**os.environ, "OPENBLAS_CORETYPE": AVX2}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return ["", f"The same with OpenBLAS's AVX2 kernels (OPENBLAS_CORETYPE={AVX2}):", *done.stdout.rstrip().split("\n")]


def measure_reference_evaluator(exports: list[Export]) -> list[str]:
    """Against onnx's own evaluator on a few networks: sample by sample as the model is, and with the batch rewritten."""
    from onnx.reference import ReferenceEvaluator

    lines = [
        "",
        "### onnx's ReferenceEvaluator, one thread, npusim at batch 512",
        "",
        "| export | sample by sample | batch of 512 rewritten |",
        "|---|---:|---:|",
    ]
    for export in exports:
        session = npusim.InferenceSession(str(export.path), threads=1)
        name, x = session.get_inputs()[0].name, export.samples(512)
        single = ReferenceEvaluator(onnx.load(export.path))
        batched = ReferenceEvaluator(onnx.load_from_string(with_batch(export.path, 512)))
        found = medians(
            {
                "npusim": lambda s=session, n=name, x=x: s.run(None, {n: x}),
                "single": lambda e=single, n=name, x=x: [e.run(None, {n: x[i : i + 1]}) for i in range(4)],
                "batched": lambda e=batched, n=name, x=x: e.run(None, {n: x}),
            },
            REPETITIONS,
        )
        ratio = found["single"] * 128 / found["npusim"]
        lines.append(f"| {export.name} | {ratio:.0f}x | {found['batched'] / found['npusim']:.0f}x |")
    return lines


def measure_peak(exports: list[Export]) -> list[str]:
    """The share of this machine's sgemm peak that compute-bound networks reach on one thread."""
    size = 768
    a, b = np.ones((size, size), np.float32), np.ones((size, size), np.float32)
    out = np.empty((size, size), np.float32)
    with threadpool_limits(1, user_api="blas"):
        seconds = medians({"sgemm": lambda: np.matmul(a, b, out=out)}, 21)["sgemm"]
    peak = size**3 / seconds
    lines = [
        "",
        f"### Share of the sgemm peak ({2 * peak / 1e9:.0f} GFLOP/s on one thread), batch 512",
        "",
        "| export | share |",
        "|---|---:|",
    ]
    for export in exports:
        if any(mark in export.network for mark in COMPUTE_BOUND):
            session = npusim.InferenceSession(str(export.path), threads=1)
            name, x = session.get_inputs()[0].name, export.samples(512)
            found = medians({"npusim": lambda s=session, n=name, x=x: s.run(None, {n: x})}, 7)["npusim"]
            lines.append(f"| {export.name} | {export.operations * 512 / found / peak:.0%} |")
    return lines


def measure_scaling(export: Export) -> list[str]:
    """Time per sample from 512 to 50,000 samples."""
    session = npusim.InferenceSession(str(export.path), threads=2)
    name = session.get_inputs()[0].name
    lines = ["", f"### Cost per sample, {export.name}, two threads", "", "| samples | us per sample |", "|---:|---:|"]
    for count in (512, 5_000, 50_000):
        x = export.samples(count)
        found = medians({"npusim": lambda x=x: session.run(None, {name: x})}, 3 if count > 5_000 else 7)["npusim"]
        lines.append(f"| {count:,} | {found / count * 1e6:.2f} |")
    return lines


MEMORY = """
import sys
import numpy as np, npusim

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

session = npusim.InferenceSession(sys.argv[1], threads=2)
with np.load(sys.argv[2]) as arrays:
    x = arrays["x"]
x = np.resize(x, (50_000, *x.shape[1:]))
before = peak()
(output,) = session.run(None, {session.get_inputs()[0].name: x})
print(peak() - before, x.nbytes / 2**20)
"""


def measure_memory(exports: list[Export]) -> list[str]:
    """Megabytes that a run of 50,000 samples needs above its inputs, in a process of its own."""
    lines = [
        "",
        "### Memory of a run of 50,000 samples, two threads",
        "",
        "| export | above the inputs | inputs |",
        "|---|---:|---:|",
    ]
    for export in exports:
        command = [sys.executable, "-c", MEMORY, str(export.path), str(EXPORTS / "inputs" / f"{export.network}.npz")]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
        above, inputs = (float(number) for number in done.stdout.split())
        lines.append(f"| {export.name} | {above:.0f} MB | {inputs:.0f} MB |")
    return lines


def measure_trace(export: Export) -> list[str]:
    """What it costs to keep tensors."""
    session = npusim.InferenceSession(str(export.path), threads=1)
    slow = npusim.InferenceSession(str(export.path), threads=1, engine="reference")
    name, x = session.get_inputs()[0].name, export.samples(512)
    codes = [step.tensors[-1] for step in session.program.steps]
    found = medians(
        {
            "run": lambda: session.run(None, {name: x}),
            "codes": lambda: session.trace({name: x}, codes),
            "everything": lambda: session.trace({name: x}),
            "reference": lambda: slow.trace({name: x}, codes),
        },
        7,
    )
    ratios = {what: found[what] / found["run"] for what in ("codes", "everything", "reference")}
    return [
        "",
        f"Keeping the codes of every layer of {export.name} for 512 samples takes",
        f"{ratios['codes']:.1f} times as long as running it (in the reference engine {ratios['reference']:.1f} times),",
        f"keeping every tensor, accumulators and all in int64, {ratios['everything']:.1f} times.",
    ]


def measure_planning(exports: list[Export]) -> list[str]:
    """Milliseconds to plan a session, and to import npusim."""
    lines = ["", "### Planning a session, and importing", "", "| what | ms |", "|---|---:|"]
    for export in exports:
        content = export.path.read_bytes()
        found = medians({"plan": lambda c=content: npusim.InferenceSession(c)}, 11)["plan"]
        lines.append(f"| {export.name} | {found * 1e3:.0f} |")
    for label, code in (
        ("import npusim", "import npusim"),
        ("import npusim; npusim.InferenceSession", "import npusim; npusim.InferenceSession"),
    ):
        script = f"import time; start = time.perf_counter(); {code}; print(time.perf_counter() - start)"
        seconds = [
            float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd="/").stdout)
            for _ in range(7)
        ]
        lines.append(f"| {label} | {statistics.median(seconds) * 1e3:.0f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="two networks, fewer repetitions")
    parser.add_argument("--write", action="store_true", help="write benchmarks/RESULTS.md")
    parser.add_argument("--means", action="store_true", help="only geometric means of the comparison with onnxruntime")
    parser.add_argument("--batch", type=int, choices=BATCHES, help="only this number of samples")
    arguments = parser.parse_args()
    exports = zoo()
    if arguments.short:
        exports = [export for export in exports if export.network in ("CNN_TS_GEN_BASE_1K_NPU", "CNN_LENET5")]
    batches = BATCHES if arguments.batch is None else (arguments.batch,)
    if arguments.means:
        sys.stdout.write("\n".join(measure_zoo(exports, batches)[0]) + "\n")
        return
    plain = [export for export in exports if "_ptq_w8a8_o" in export.name]
    by_operations = sorted(plain, key=lambda export: export.operations)
    first = next(export for export in exports if "1K_NPU" in export.network)
    means, table = measure_zoo(exports, batches)
    lines = [
        "# Speed",
        "",
        "Ratios of median times in one run, all contenders taking turns: above 1, npusim's fast engine is faster. Absolute",
        "times are those of the machine at hand. `python benchmarks/speed.py --write` measures again, `--short` takes two",
        "networks.",
        "",
        *machine(),
        "",
        f"Geometric means of the ratios over {len(exports)} exports, the smallest in brackets:",
        *means,
        *measure_avx2_kernels(arguments.short),
        *measure_reference_evaluator(plain[:: 1 if arguments.short else 4]),
        *measure_peak(plain),
        *measure_scaling(first if arguments.short else by_operations[-1]),
        *measure_memory(by_operations[-2:]),
        *measure_trace(first),
        *measure_planning([export for export in plain if "1K_NPU" in export.network or "MOBILENET" in export.network]),
        *table,
    ]
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    if arguments.write:
        (ROOT / "benchmarks" / "RESULTS.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
