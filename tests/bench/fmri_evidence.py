"""What FMamba learns on the built-in cohort: one object with every figure that is promised.

Run: `python tests/bench/fmri_evidence.py --json`, or with `--parts ar,mim --seeds 1,2,3`. Each part
goes through the public functions, as the commands do, and every figure is of people that were not
trained on:

* `frequency`: accuracy of `fmamba_mlp --task sex -p fmri/sex-cohort`, whose classes differ in the
  frequency of one network, beside the majority's and a linear model's on connectivity; half a
  minute a seed.
* `ar`: skill of `fmamba --pretrain ar` over persistence; under a minute.
* `mim`: skill of `--pretrain mim -p fmri/mim` over each voxel's temporal mean; a minute.
* `contrastive`: how often a held-out person's second clip is the nearest to the first among 33
  people, 48 trained (`-p fmri/contrastive`); some minutes.
* `probe`: 100 of 200 people without labels train a backbone by contrast, 16 of them with labels
  train a linear layer on it, the rest test it, beside the same on random weights; ten minutes.

There is no peer and so no ratio: `..._held` says whether the worst seed holds what was promised.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measure import arguments, show

import neurocli
from neurocli.core.cohort.options import SplitOptions

NO_BASELINES = "task.baselines=[]"
PROBE_PEOPLE, LABELLED = 200, 16


def judged(run: Path, *settings: str) -> Any:
    """Return what a run's best weights reach on its test part."""
    return neurocli.evaluate(run / "checkpoints" / "best.pth", set=list(settings))


def frequency(scratch: Path, seed: int) -> dict[str, float]:
    """Return accuracies of the frequency classes."""
    done = neurocli.train(
        "fmamba_mlp", task="sex", preset="fmri/sex-cohort", seed=seed, out=scratch / "run"
    )
    result = judged(done.run)
    found = {"accuracy": result.metrics["accuracy"]}
    for name, values in result.baselines.items():
        found[f"{name}_accuracy"] = values["accuracy"]
    return found


def ar(scratch: Path, seed: int) -> dict[str, float]:
    """Return the skill of next-token training."""
    done = neurocli.train("fmamba", pretrain="ar", seed=seed, out=scratch / "run")
    return {"skill_vs_persistence": judged(done.run).metrics["skill_vs_persistence"]}


def mim(scratch: Path, seed: int) -> dict[str, float]:
    """Return the skill of masked training."""
    done = neurocli.train("fmamba", pretrain="mim", preset="fmri/mim", seed=seed,
                          out=scratch / "run")  # fmt: skip
    return {"skill_vs_mean": judged(done.run).metrics["skill_vs_mean"]}


def contrastive(scratch: Path, seed: int) -> dict[str, float]:
    """Return the retrieval of people, of whom 48 were trained and 33 are told apart."""
    prepared = scratch / "people"
    neurocli.preprocess("dummy", out=prepared, n_subjects=96)
    split = divided(prepared, scratch / "split.json", seed, train=0.5, val=0.16)
    done = neurocli.train("fmamba", pretrain="contrastive", preset="fmri/contrastive", seed=seed,
                          data=prepared, split=split, out=scratch / "run")  # fmt: skip
    result = judged(done.run)
    return {"retrieval_top1": result.metrics["retrieval_top1"], "people": float(result.n)}


def probe(scratch: Path, seed: int) -> dict[str, float]:
    """Return accuracies of a linear layer on frozen weights, contrastive and random ones."""
    prepared = scratch / "people"
    neurocli.preprocess("dummy", out=prepared, n_subjects=PROBE_PEOPLE)
    split = divided(prepared, scratch / "split.json", seed, train=0.5, val=0.08)
    few = scratch / "few.json"
    few.write_text(json.dumps(labelled(json.loads(split.read_text("utf-8")), prepared, seed)))
    found: dict[str, float] = {}
    for name, more in {
        "pretrained": {"epochs": 25},
        "random": {"steps": 1, "lr": 1e-12},
    }.items():
        done = neurocli.train(
            "fmamba", pretrain="contrastive", preset="fmri/contrastive", seed=seed, data=prepared,
            split=split, set=["data.scaling=voxel-z"], out=scratch / name, **more,
        )  # fmt: skip
        head = neurocli.train(
            "fmamba_mlp", task="sex", preset="fmri/sex-cohort", seed=seed, data=prepared, split=few,
            freeze=True, init_from=done.checkpoint, epochs=60, lr=1e-2,
            set=["data.sequence_length=10", NO_BASELINES], out=scratch / f"{name}_probe",
        )  # fmt: skip
        result = judged(head.run)
        found |= {f"{name}_accuracy": result.metrics["accuracy"], "people": float(result.n)}
    found["gain"] = found["pretrained_accuracy"] - found["random_accuracy"]
    return found


def divided(prepared: Path, out: Path, seed: int, *, train: float, val: float) -> Path:
    """Write a split that balances the classes and keeps families together."""
    options = SplitOptions(train=train, val=val, seed=seed, stratify="sex", group="family")
    return Path(neurocli.make_split(prepared, out, options).out)


def labelled(split: dict[str, Any], prepared: Path, seed: int) -> dict[str, Any]:
    """Return a split whose training part keeps as many people of either class."""
    (table,) = sorted(prepared.glob("participants.*")) or sorted(prepared.glob("*.tsv"))
    separator = "\t" if table.suffix == ".tsv" else ","
    head, *rows = [line.split(separator) for line in table.read_text("utf-8").splitlines()]
    sex = {row[0]: row[head.index("sex")] for row in rows}
    order = np.random.default_rng(seed).permutation(sorted(split["parts"]["train"]))
    kept = [who for k in "FM" for who in [w for w in order if sex[w] == k][: LABELLED // 2]]
    return {**split, "parts": {**split["parts"], "train": [str(who) for who in kept]}}


PARTS: dict[str, tuple[Callable[[Path, int], dict[str, float]], str, float]] = {
    "frequency": (frequency, "accuracy", 0.95),
    "ar": (ar, "skill_vs_persistence", 0.0),
    "mim": (mim, "skill_vs_mean", 0.0),
    "contrastive": (contrastive, "retrieval_top1", 0.9),
    "probe": (probe, "gain", 0.1),
}


def main() -> None:
    """Run the parts that are asked for and print what was found."""
    options = arguments(
        __doc__, 1,
        parts=f"of {', '.join(PARTS)}, with commas; all by default",
        seeds="training seeds, with commas; 1 by default",
    )  # fmt: skip
    seeds = [int(seed) for seed in (options.seeds or "1").split(",")]
    figures: dict[str, Any] = {}
    for name in options.parts.split(",") if options.parts else PARTS:
        run, main_figure, promised = PARTS[name]
        for seed in seeds:
            with tempfile.TemporaryDirectory() as scratch:
                found = run(Path(scratch), seed)
            for key, value in found.items():
                figures[f"{name}_seed_{seed}_{key}"] = value
        worst = min(figures[f"{name}_seed_{seed}_{main_figure}"] for seed in seeds)
        figures[f"{name}_worst"], figures[f"{name}_promised"] = worst, promised
        figures[f"{name}_held"] = bool(worst > promised if promised == 0 else worst >= promised)
    show("fmri_evidence", {}, figures, options.json)


if __name__ == "__main__":
    main()
