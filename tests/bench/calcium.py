"""Training steps of contrastive embeddings against the published package, and mapped memory.

Run: `python tests/bench/calcium.py --json`. Random traces of the described size (32187 frames, 150
neurons), offset10 encoder with 32 hidden units and 32 outputs, no scaling or dropout on either
side, Adam, one thread, CPU time in turns. A step is index, gather, forward, loss, backward and
update of each program's own code. `dense` compares batches of 4096. Memory is what training on 16
mapped sessions of 32187 frames and 150 neurons adds to a process, in MiB.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from measure import arguments, peak_elsewhere, peak_mib, seconds_in_turns, show

from neurocli.core.config.load import load_config
from neurocli.systems.calcium.data import make_samplers
from neurocli.systems.calcium.models.build import build
from neurocli.systems.calcium.samples import About, Recordings, SlotSet
from neurocli.systems.calcium.scaling import Scaler, fit_scaler
from neurocli.systems.calcium.session import Session
from neurocli.systems.calcium.store import read_stored, write_stored
from neurocli.systems.calcium.task import EmbeddingTask

FRAMES, NEURONS = 32187, 150
FOUR = (150, 240, 227, 181)


def session(name: str, neurons: int, frames: int = FRAMES) -> Session:
    """Return random traces, all of them one training segment."""
    rng = np.random.default_rng([neurons, frames])
    empty = np.zeros((0, 2), dtype=np.int64)
    segments = {"train": np.array([[0, frames]]), "val": empty, "test": empty}
    traces = rng.standard_normal((frames, neurons), dtype=np.float32)
    names = tuple(map(str, range(neurons)))
    return Session(name, traces, 30.0, 0.0, segments, {}, names, "random", "all")


def ours(
    sessions: list[Session], objective: str, batch: int, label: np.ndarray | None
) -> Callable[[], None]:
    """Return one training step of this program."""
    config = load_config(
        model="cebra",
        set=[f"data.batch_size={batch}", "model.hidden_dim=32", "model.output_dim=32",
             "model.neuron_dropout=0", "data.mode=separate"],
    )  # fmt: skip
    keys = [np.zeros(s.n_frames, dtype=np.int64) for s in sessions]
    values = [np.zeros((s.n_frames, 1)) if label is None else label[:, None] for s in sessions]
    about = About(tuple(s.name for s in sessions), (), 0, (30.0,) * len(sessions))
    recordings = Recordings(sessions, keys, values, (5, 5), about)
    samplers = make_samplers(recordings, config.task, objective)  # type: ignore[arg-type]
    longest = max(s.n_frames for s in sessions)
    slots = SlotSet(recordings, samplers, batch, 0, is_dense=longest < 12 * batch)
    model = build(config, {"n_neurons": [s.n_neurons for s in sessions]})
    task = EmbeddingTask(config)
    task._scalers = [Scaler(torch.ones(s.n_neurons), torch.zeros(s.n_neurons)) for s in sessions]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    count = iter(range(10**9))

    def step() -> None:
        epoch = next(count)
        drawn = slots.collate([slots.sample(i, epoch) for i in range(batch)])
        optimizer.zero_grad(set_to_none=True)
        task.train_step(model, drawn).loss.backward()
        optimizer.step()

    return step


def theirs(
    sessions: list[Session], conditional: str, batch: int, label: np.ndarray | None
) -> Callable[[], None]:
    """Return one training step of the published package."""
    import cebra

    traces = [torch.from_numpy(np.asarray(s.traces)) for s in sessions]
    single = len(sessions) == 1
    with contextlib.redirect_stdout(io.StringIO()):
        if single:
            clock = np.arange(FRAMES) if label is None else label
            index = torch.from_numpy(clock[:, None]).float()
            data = cebra.data.TensorDataset(
                traces[0], continuous=index, offset=cebra.data.Offset(5, 5)
            )
            loader = cebra.data.ContinuousDataLoader(
                data, num_steps=1, batch_size=batch, conditional=conditional, time_offset=10
            )
            model = cebra.models.init("offset10-model", traces[0].shape[1], 32, 32)
            data.configure_for(model)
        else:
            index = torch.from_numpy(label[:, None]).float()  # type: ignore[index]
            sets = [
                cebra.data.TensorDataset(own, continuous=index, offset=cebra.data.Offset(5, 5))
                for own in traces
            ]
            data = cebra.data.DatasetCollection(*sets)
            loader = cebra.data.ContinuousMultiSessionDataLoader(
                data, num_steps=1, batch_size=batch, conditional=conditional, time_offset=10
            )
            model = torch.nn.ModuleList(
                cebra.models.init("offset10-model", own.shape[1], 32, 32) for own in traces
            )
            for own, net in zip(sets, model, strict=True):
                own.configure_for(net)
        criterion = cebra.models.FixedCosineInfoNCE(temperature=1.0)
        kind = "single-session" if single else "multi-session"
        solver = cebra.solver.init(
            kind, model=model, criterion=criterion,
            optimizer=torch.optim.Adam(model.parameters(), lr=3e-4), tqdm_on=False,
        )  # fmt: skip

    def step() -> None:
        solver.step(next(iter(loader)))

    return step


def measure_memory(folder: Path) -> float:
    """Return what fitting scales and ten steps on 16 mapped sessions add, in MiB."""
    sessions = [read_stored(folder / f"s{number:02d}") for number in range(16)]

    def work() -> None:
        for own in sessions:
            fit_scaler(own)
        step = ours(sessions, "time", 128, None)
        for _ in range(10):
            step()

    ours([session("warm", 10, 500)], "time", 16, None)()
    return peak_mib(work)


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, runs=5)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if options.peak:
        print(measure_memory(Path(options.peak)))
        return
    walk = np.cumsum(np.random.default_rng(0).normal(size=FRAMES))
    one = [session("one", NEURONS)]
    four = [session(f"s{n}", n) for n in FOUR]
    cases = {
        "time_b512": (one, "time", "time", 512, None),
        "time_delta_b512": (one, "labels", "time_delta", 512, walk),
        "four_sessions_b512": (four, "labels", "time_delta", 512, walk),
        "time_delta_b4096": (one, "labels", "time_delta", 4096, walk),
    }
    ratios: dict[str, float] = {}
    figures: dict[str, object] = {"threads": 1, "torch": torch.__version__}
    for name, (sessions, objective, conditional, batch, label) in cases.items():
        works = {
            "ours": ours(sessions, objective, batch, label),
            "cebra": theirs(sessions, conditional, batch, label),
        }
        times = seconds_in_turns(works, options.runs if batch <= 512 else 3)
        ratios[name] = times["cebra"] / times["ours"]
        figures |= {f"{name}_{who}_ms": 1000 * seconds for who, seconds in times.items()}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(16):
            place = Path(folder) / f"s{number:02d}"
            place.mkdir()
            write_stored(session(f"s{number:02d}", NEURONS), place)
        figures["sixteen_sessions_mib"] = 16 * FRAMES * NEURONS * 4 / 2**20
        figures["sixteen_sessions_added_mib"] = peak_elsewhere(__file__, folder)
    show("calcium", ratios, figures, options.json)


if __name__ == "__main__":
    main()
