"""The built-in sessions, made anew in memory whenever no dataset is named.

`synthetic.py` tells what is true in them.
"""

from __future__ import annotations

from neurocli.systems.calcium.session import Session, cleaned
from neurocli.systems.calcium.stimuli import derived_parts, frame_labels
from neurocli.systems.calcium.synthetic import CohortSpec, Simulated, simulate


def built_in_sessions(spec: CohortSpec | None = None) -> list[Session]:
    """Return the sessions of a made-up cohort.

    Args:
        spec: The cohort; None is the default one.
    """
    spec = spec or CohortSpec()
    return [opened(simulate(spec, index)) for index in range(len(spec.n_neurons))]


def opened(made: Simulated) -> Session:
    """Return a made-up session as a reader would, with the truth as a label.

    Args:
        made: From `simulate`.
    """
    n_frames, n_neurons = made.traces.shape
    segments, split = derived_parts(made.stimuli, n_frames, made.rate_hz)
    session = Session(
        name=made.name,
        traces=made.traces,
        rate_hz=made.rate_hz,
        start_s=made.start_s,
        segments=segments,
        labels={
            **frame_labels(made.stimuli, n_frames),
            "running": made.running,
            "truth": made.truth,
        },
        neurons=tuple(map(str, range(n_neurons))),
        layout="synthetic",
        split=split,
        stimuli={name: len(table.start) for name, table in made.stimuli.items()},
        is_tuned=made.is_tuned,
    )
    return cleaned(session, made.name)
