"""The same work from Python: train, judge, read the table of people, embed new clips.

Usage: python examples/python_api.py [OUTPUT_FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import torch

import neurocli

out = Path(sys.argv[1] if len(sys.argv) > 1 else "python-example")

# The options are the flags of `neuro train`; without data the built-in cohort is used.
run = neurocli.train("fmamba", pretrain="ar", preset="fmri/tiny", steps=4, out=out / "run")
judged = neurocli.evaluate(run.checkpoint)
low, high = judged.ci95["loss"]
print(f"loss {judged.metrics['loss']:.3f} [{low:.3f}, {high:.3f}], n = {judged.n}")

# Every number has a file behind it.
people = pd.read_csv(Path(judged.out) / "per_subject.csv")
print(people.head(3).to_string(index=False))

# A checkpoint is a plain torch module again, without the command line.
model = neurocli.load_model(run.checkpoint)
model.eval()
with torch.no_grad():
    n_weights = sum(weight.numel() for weight in model.parameters())
print(f"{type(model).__name__} with {n_weights:,} weights")
