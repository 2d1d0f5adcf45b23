"""One run from .nii.gz to a file that training reads, against the field's own ways.

Run: `python tests/bench/preprocess.py --json`. A run of 91x109x91x200 int16 voxels in the brain of
the MNI152 template, made on the fly; masked, z-normed over brain voxels, stored as float16 (or, in
one pass, as the stored whole numbers with scale and shift). Every work is a process of its own,
start and imports included, one thread, CPU time (user and system) in turns, the median of the
cleaner half. Peers: MONAI LoadImage and one `frame_{i}.pt` per volume in the order of the SwiFT
family, and nilearn's masking. `*_inflate_share` is the time of isal inflating the file over that of
the whole work, without start and imports; ours inflates in a thread of its own, so that wall time
on two free cores is shorter than CPU time.

`jobs_2_vs_1` is wall time of 16 such runs with `--jobs 1` over `--jobs 2`, whole processes in
turns, the shortest of each: it needs two free cores. `jobs_2_vs_1_possible` is what two free cores
could give, twice the CPU time of one job over that of two: what is missing to 2 is what a worker
costs.
`--jobs-only` measures nothing else.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from measure import arguments, peak_elsewhere, peak_mib, show

SHAPE, FRAMES = (91, 109, 91), 200
AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
_HOME = "NEURO_BENCH_RUN"
ONE_PASS = {"scaling": "znorm_minback"}
HALF = {**ONE_PASS, "dtype": "float16"}
N_RUNS = 16


def make(folder: Path) -> None:
    """Write the run, its mask, and a small run."""
    import nibabel as nib
    from nilearn.datasets import load_mni152_brain_mask
    from nilearn.image import resample_to_img

    grid = nib.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE)
    template = load_mni152_brain_mask(resolution=2)
    placed = resample_to_img(
        template, grid, interpolation="nearest", force_resample=True, copy_header=True
    )
    mask = placed.get_fdata() > 0
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), AFFINE), folder / "mask.nii.gz")
    random = np.random.default_rng(0)
    level = 9000 + 1500 * random.standard_normal(int(mask.sum()))
    values = np.zeros((*SHAPE, FRAMES), np.int16, order="F")
    for frame in range(FRAMES):
        noise = 90 * random.standard_normal(len(level))
        values[..., frame][mask] = np.clip(level + noise, 1, 32_000)
    nib.save(nib.Nifti1Image(values, AFFINE), folder / "run.nii.gz")
    small = np.zeros((20, 20, 20, 4), np.int16)
    small[5:15, 5:15, 5:15] = random.integers(900, 999, (10, 10, 10, 4))
    nib.save(nib.Nifti1Image(small, AFFINE), folder / "small.nii.gz")


def ours(run: Path, options: dict[str, str]) -> None:
    """Process the run with this package."""
    import neurocli

    with tempfile.TemporaryDirectory(dir=run.parent) as out:
        result = neurocli.preprocess("nifti", run, out=out, options=options)
    assert result.done == 1


def monai(run: Path) -> None:
    """Load as 4D floats, z-norm outside the background, write a tensor per frame."""
    import torch
    from monai.transforms import LoadImage

    data = torch.as_tensor(LoadImage(image_only=True)(run))
    background = data == 0
    inside = data[~background]
    scaled = (data - inside.mean()) / inside.std()
    filled = torch.full_like(scaled, scaled[~background].min())
    filled[~background] = scaled[~background]
    with tempfile.TemporaryDirectory(dir=run.parent) as out:
        for index, frame in enumerate(torch.split(filled.half(), 1, 3)):
            torch.save(frame.clone(), Path(out) / f"frame_{index}.pt")


def nilearn(run: Path) -> None:
    """Mask with nilearn, z-norm, write one HDF5 file."""
    import h5py
    from nilearn.masking import apply_mask

    values = apply_mask(run, run.with_name("mask.nii.gz"), dtype="f", ensure_finite=False)
    scaled = ((values - values.mean()) / values.std(ddof=1)).astype(np.float16)
    with tempfile.TemporaryDirectory(dir=run.parent) as out, h5py.File(f"{out}/x.h5", "w") as file:
        file.create_dataset("bold", data=scaled, chunks=(1, scaled.shape[1]))


def inflate(run: Path) -> None:
    """Inflate the file with isal and drop the bytes."""
    from isal import isal_zlib

    inflater = isal_zlib.decompressobj(31)
    with run.open("rb") as handle:
        while block := handle.read(32 << 10):
            inflater.decompress(block)


WORKS: dict[str, Callable[[Path], None]] = {
    "one_pass": lambda run: ours(run, ONE_PASS),
    "float16": lambda run: ours(run, HALF),
    "nilearn": nilearn,
    "monai": monai,
}


def alone(name: str, run: Path) -> tuple[float, float, float]:
    """Return CPU seconds, wall seconds and peak memory in MiB of a process with one work."""
    code = f"import preprocess, pathlib; preprocess.WORKS[{name!r}](pathlib.Path({str(run)!r}))"
    return usage_of([sys.executable, "-c", code], name)


def usage_of(command: list[str], name: str) -> tuple[float, float, float]:
    """Return CPU seconds, wall seconds and peak memory in MiB of a command and its workers."""
    began = time.perf_counter()
    child = subprocess.Popen(command, cwd=Path(__file__).parent, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{name} failed")
    wall = time.perf_counter() - began
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024


def inside(run: Path, runs: int) -> dict[str, tuple[float, float]]:
    """Return CPU and wall seconds of inflating and of our works in this process, in turns."""
    works: dict[str, Callable[[], None]] = {
        "inflate": lambda: inflate(run),
        "one_pass": lambda: ours(run, ONE_PASS),
        "float16": lambda: ours(run, HALF),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for turn in range(runs + 1):
        for name, work in works.items():
            began = time.process_time(), time.perf_counter()
            work()
            if turn:
                spent = time.process_time() - began[0], time.perf_counter() - began[1]
                taken[name].append(spent)
    return {n: (min(t[0] for t in times), min(t[1] for t in times)) for n, times in taken.items()}


def jobs(run: Path, turns: int) -> dict[str, float]:
    """Return CPU and wall seconds of many runs with one and with two workers."""
    many = run.parent / "many"
    many.mkdir()
    for index in range(N_RUNS):
        os.link(run, many / f"sub-{index:02d}.nii.gz")
    taken: dict[int, list[tuple[float, float, float]]] = {1: [], 2: []}
    for turn in range(turns):
        for n_jobs, times in taken.items():
            out = run.parent / f"out-{n_jobs}-{turn}"
            command = [sys.executable, "-m", "neurocli", "preprocess", "nifti", str(many)]
            command += ["-o", str(out), "-j", str(n_jobs), "-q", "--scaling", ONE_PASS["scaling"]]
            times.append(usage_of(command, f"--jobs {n_jobs}"))
            shutil.rmtree(out)
    shutil.rmtree(many)
    return {
        f"jobs_{n}_{clock}_s": min(times[index] for times in taken[n])
        for n in taken
        for index, clock in enumerate(("cpu", "wall"))
    }


def jobs_ratios(seconds: dict[str, float]) -> dict[str, float]:
    """Return how much faster two workers are, and could be."""
    return {
        "jobs_2_vs_1": seconds["jobs_1_wall_s"] / seconds["jobs_2_wall_s"],
        "jobs_2_vs_1_possible": 2 * seconds["jobs_1_cpu_s"] / seconds["jobs_2_cpu_s"],
    }


def main() -> None:
    """Measure and print."""
    is_jobs_only = "--jobs-only" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--jobs-only"]
    options = arguments(__doc__, runs=3)
    os.environ["OMP_NUM_THREADS"] = "1"
    if options.peak:
        run = Path(os.environ[_HOME])
        chosen = {"one_pass": ONE_PASS, "float16": HALF}[options.peak]
        small = run.with_name("small.nii.gz")
        ours(small, chosen)  # imports and first calls are not what is measured
        print(peak_mib(lambda: ours(run, chosen)))
        return
    with tempfile.TemporaryDirectory() as home:
        # Made elsewhere: a child's peak memory counts what its parent held when it started.
        code = f"import preprocess, pathlib; preprocess.make(pathlib.Path({home!r}))"
        subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True)
        run = Path(home) / "run.nii.gz"
        os.environ[_HOME] = str(run)
        many = jobs(run, max(1, options.runs - 1))
        if is_jobs_only:
            show("preprocess", jobs_ratios(many), dict(many), options.json)
            return
        taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in WORKS}
        for _ in range(options.runs):
            for name in WORKS:
                taken[name].append(alone(name, run))
        here = inside(run, options.runs)
        added = {name: peak_elsewhere(__file__, name) for name in ("one_pass", "float16")}
    cpu = {name: _cleaner([t[0] for t in times]) for name, times in taken.items()}
    ratios = {
        f"{ours_}_vs_{peer}": cpu[peer] / cpu[ours_]
        for ours_ in ("one_pass", "float16")
        for peer in ("monai", "nilearn")
    }
    ratios |= {
        f"one_pass_vs_{peer}_wall": min(t[1] for t in taken[peer])
        / min(t[1] for t in taken["one_pass"])
        for peer in ("monai", "nilearn")
    }
    for index, clock in enumerate(("cpu", "wall")):
        for name in ("one_pass", "float16"):
            ratios[f"{name}_inflate_share_{clock}"] = here["inflate"][index] / here[name][index]
    ratios |= jobs_ratios(many)
    figures: dict[str, object] = {"threads": 1, **many}
    for name, times in taken.items():
        figures[f"{name}_cpu_s"] = cpu[name]
        figures[f"{name}_wall_s"] = min(t[1] for t in times)
        figures[f"{name}_peak_mib"] = max(t[2] for t in times)
    for name, (cpu_s, wall_s) in here.items():
        figures |= {f"{name}_inside_cpu_s": cpu_s, f"{name}_inside_wall_s": wall_s}
    figures |= {f"{name}_added_mib": value for name, value in added.items()}
    show("preprocess", ratios, figures, options.json)


def _cleaner(times: list[float]) -> float:
    return statistics.median(sorted(times)[: (len(times) + 1) // 2])


if __name__ == "__main__":
    main()
