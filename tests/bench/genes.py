"""Gene alignment against plain ways: reading, packing, memory of a step, one run for all genes.

Peers: `np.load` of one file after another; the same step without chunks; 111 single runs (one is
run, the others are its multiple, which is said in the figures); polars' own `read_csv`. One thread.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from measure import arguments, peak_elsewhere, peak_mib, seconds_in_turns, show

from neurocli.core.config.load import load_config
from neurocli.core.data.number_tables import read_numbers
from neurocli.systems.genes.config import LatentsOptions
from neurocli.systems.genes.models.build import build
from neurocli.systems.genes.prepare import pack_latents, packed_latents
from neurocli.systems.genes.raw_files import write_gene_table
from neurocli.systems.genes.sources import latent_files
from neurocli.systems.genes.task import AlignTask

N_FILES, SHAPE = 2000, (3, 15, 18, 15)
N_ROWS, N_COLUMNS = 40_000, 256
N_GENES, BATCH = 111, 128
EPOCHS_OF_A_RUN = 6
PARTS = ("reading", "table", "sweep", "memory")


def reading(folder: Path, runs: int) -> tuple[dict[str, float], dict[str, object]]:
    """Compare packing and the pack with np.load, one file after another."""
    rng = np.random.default_rng(0)
    for i in range(N_FILES):
        array = rng.standard_normal(SHAPE, dtype=np.float32)
        np.savez(folder / f"{1_000_000 + i}_latent.npz", latent=array)
    options = LatentsOptions()
    files, _ = latent_files(folder, options.latent_pattern)
    packed_latents(folder, options)
    turn = iter(range(10_000))

    def load_each() -> np.ndarray:
        rows = []
        for path in files.values():
            with np.load(path) as archive:
                rows.append(archive["latent"].reshape(-1))
        return np.stack(rows)

    def pack() -> None:
        target = folder.parent / f"pack-{next(turn)}"
        pack_latents(target, files, options, [])

    order = rng.permutation(N_FILES)

    def reuse() -> float:
        # As an epoch reads it: opened anew, in shuffled batches.
        values = packed_latents(folder, options).values
        return sum(float(values[order[i : i + BATCH]][0, 0]) for i in range(0, N_FILES, BATCH))

    assert np.array_equal(packed_latents(folder, options).values, load_each())
    taken = seconds_in_turns({"load": load_each, "pack": pack, "reuse": reuse}, runs)
    ratios = {
        "pack_over_np_load": taken["load"] / taken["pack"],
        "reuse_over_np_load": taken["load"] / taken["reuse"],
    }
    figures: dict[str, object] = {f"{name}_2000_latents_s": t for name, t in taken.items()}
    figures["pack_share_of_np_load_time"] = taken["pack"] / taken["load"]
    return ratios, figures


def table(folder: Path, runs: int) -> tuple[dict[str, float], dict[str, object]]:
    """Compare reading a wide CSV with polars' own reader."""
    import polars

    values = np.random.default_rng(1).standard_normal((N_ROWS, N_COLUMNS), dtype=np.float32)
    path = folder / "GENE.csv"
    write_gene_table(path, [str(1_000_000 + i) for i in range(N_ROWS)], values)
    columns = [f"emb_{i}" for i in range(N_COLUMNS)]
    kinds = {"IID": polars.String, **dict.fromkeys(columns, polars.Float32)}

    def ours() -> np.ndarray:
        return read_numbers(path, id_column="IID", columns=columns).values

    def peer() -> np.ndarray:
        frame = polars.read_csv(path, schema_overrides=kinds)
        return frame.select(columns).to_numpy()

    assert np.array_equal(ours(), peer())
    assert np.array_equal(ours(), values)
    # polars works in threads of its own, so that this is wall time, in turns.
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(runs):
        for name, work in (("ours", ours), ("peer", peer)):
            began = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - began)
    taken = {name: sorted(found)[len(found) // 2] for name, found in times.items()}
    return (
        {"csv_over_polars": taken["peer"] / taken["ours"]},
        {f"csv_40000x257_{name}_wall_s": t for name, t in taken.items()},
    )


def sequence_step(chunk: int | None) -> None:
    """Do one training step of the described sequence model on 128 people."""
    torch.manual_seed(0)
    settings = [f"task.micro_batch={chunk or BATCH}"]
    config = load_config("genes/sequence", set=settings, model="gene_sequence")
    model = build(config, {})
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    batch = {
        "neuro_embedding": torch.randn(BATCH, 12150),
        "gene_sequence": torch.randn(BATCH, N_GENES, N_COLUMNS),
        "gene_class": torch.arange(BATCH),
        "draw": torch.arange(BATCH),
        "participant": [str(i) for i in range(BATCH)],
    }
    AlignTask(config).train_step(model, batch).loss.backward()
    optimizer.step()


def runs_of_all_genes() -> tuple[dict[str, float], dict[str, object]]:
    """Compare one sweep over 111 genes with 111 runs of one gene, of which one is timed."""
    cohort = ["-s", "data.cohort=ukb", "-s", "task.permutations=0", "--force", "-q"]
    with tempfile.TemporaryDirectory() as folder:
        out = ["-o", f"{folder}/run"]
        program = [sys.executable, "-m", "neurocli", "align-genes"]
        closed = [*program, "--method", "rcca", "--gene", "APOE", *cohort, *out]
        epochs = ["--epochs", str(EPOCHS_OF_A_RUN), "--batch-size", "128", "--lr", "1e-4"]
        trained = [*program, "--gene", "APOE", "--projection-dim", "512", *epochs, *cohort, *out]
        _cpu_seconds(closed)  # makes the cohort
        seconds = {
            "sweep": _cpu_seconds([*program, "--mode", "sweep", *cohort, *out]),
            "single_rcca": _cpu_seconds(closed),
            "single_trained_6_epochs": _cpu_seconds(trained),
        }
    ratios = {
        "sweep_over_111_trained_runs": N_GENES * seconds["single_trained_6_epochs"],
        "sweep_over_111_rcca_runs": N_GENES * seconds["single_rcca"],
    }
    figures: dict[str, object] = {f"{name}_cpu_s": value for name, value in seconds.items()}
    figures["runs_of_111"] = "one timed, times 111"
    return {name: value / seconds["sweep"] for name, value in ratios.items()}, figures


def memory_of_a_step() -> tuple[dict[str, float], dict[str, object]]:
    """Compare the memory of one step of the sequence model, whole and in chunks."""
    peaks = {name: peak_elsewhere(__file__, name) for name in ("plain", "chunked")}
    figures: dict[str, object] = {
        f"sequence_step_{BATCH}_{name}_mib": value for name, value in peaks.items()
    }
    return {"memory_of_sequence_step": peaks["chunked"] / peaks["plain"]}, figures


def _cpu_seconds(command: list[str]) -> float:
    before = os.times()
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    return (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )


def main() -> None:
    """Run everything and print the result."""
    asked = arguments(__doc__, runs=3, only=f"one part alone: {', '.join(PARTS)}")
    if asked.peak:
        print(peak_mib(lambda: sequence_step(8 if asked.peak == "chunked" else None)))
        return
    if asked.only not in (None, *PARTS):
        sys.exit(f"--only {asked.only}: the parts are {', '.join(PARTS)}")
    torch.set_num_threads(1)
    ratios: dict[str, float] = {}
    figures: dict[str, object] = {"threads": 1}
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("NEURO_CACHE", f"{folder}/cache")
        latents = Path(folder) / "latents"
        latents.mkdir()
        parts = {
            "reading": lambda: reading(latents, asked.runs),
            "table": lambda: table(Path(folder), asked.runs),
            "sweep": runs_of_all_genes,
            "memory": memory_of_a_step,
        }
        for name in PARTS if asked.only is None else (asked.only,):
            more, told = parts[name]()
            ratios |= more
            figures |= told
    show("genes", ratios, figures, asked.json)


if __name__ == "__main__":
    main()
