"""Opening sessions for a run: which sessions, which labels, which windows in which part.

Parts are stretches of time within each session, never whole sessions. Without a dataset made-up
sessions stand in, and the result says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from neurocli.core.cohort.files import split_sha256
from neurocli.core.config.run import RunConfig
from neurocli.core.engine.task import Part, RunData, SampleSet
from neurocli.core.errors import InputError, NeuroError, UsageError
from neurocli.core.events import Listener, ignore
from neurocli.systems.calcium.combine import apply_mode, glued, highpassed
from neurocli.systems.calcium.config import (
    FIELDS,
    CalciumDataBlock,
    CalciumTaskBlock,
    EncoderConfig,
)
from neurocli.systems.calcium.dummy import built_in_sessions
from neurocli.systems.calcium.labels import (
    LabelSpec,
    classes_and_values,
    find_specs,
    truth_spec,
    with_null,
)
from neurocli.systems.calcium.read import find_sources, open_sessions
from neurocli.systems.calcium.samples import About, PieceSet, Recordings, SlotSet
from neurocli.systems.calcium.sampling import LabelPairs, Sampler, TimePairs
from neurocli.systems.calcium.session import PARTS, Session, centres_of, frames_in

_MIN_STEPS = 100
# One dense pass beats single windows where a step draws at least a twelfth of the frames.
_DENSE_SHARE = 12
_FEW = 16


def open_data(
    config: RunConfig,
    listener: Listener = ignore,
    *,
    split: Mapping[str, list[str]] | None = None,
    like: Mapping[str, Any] | None = None,
) -> RunData:
    """Open the sessions of a run, or made-up ones when no dataset is named.

    Args:
        config: The run's configuration; its blocks are those of this room.
        listener: Unused.
        split: Parts that a checkpoint holds; sessions carry their own.
        like: `RunData.info` of the data a model was trained on; sessions must be among its. None
            opens the training part for training.

    Returns:
        Parts, what the model needs to know, and what was left out.

    Raises:
        UsageError: Options do not fit the sessions.
        NeuroError: No session can be used.
    """
    del listener, split
    data, task = cast(CalciumDataBlock, config.data), cast(CalciumTaskBlock, config.task)
    if data.split is not None:
        raise UsageError(
            "sessions carry their own parts in time; a list of people cannot divide them",
            where="--split",
            hint="leave it out, or store other masks in the session files",
        )
    field = FIELDS[cast(EncoderConfig, config.model).encoder]
    sessions, left_out, notes = _sessions(data, field)
    if like is not None:
        sessions, more = _known(sessions, like)
        notes += more
    specs, more = find_specs(sessions, task.target)
    notes += more
    objective = like["objective"] if like is not None else _objective(task, specs)
    if objective != "time" and not specs:
        raise UsageError(
            f"'{objective}' needs labels, and these sessions share none",
            where="task.objective",
            hint="--pretrain time needs none",
        )
    sessions = [with_null(session, specs, task.null, config.run.seed) for session in sessions]
    recordings = _recordings(sessions, specs, field)
    parts = _parts(recordings, config, objective, is_trained=like is not None)
    names = {
        part: [f"{s.name}/{part}" for s in sessions if len(s.segments[part])] for part in PARTS
    }
    return RunData(
        objective=objective,
        parts=parts,
        info={
            "objective": objective,
            "sessions": [session.name for session in sessions],
            "n_neurons": [session.n_neurons for session in sessions],
            "n_frames": [session.n_frames for session in sessions],
            "rates_hz": [session.rate_hz for session in sessions],
            "targets": [spec.plain() for spec in specs],
            **({} if like is None else {key: like[key] for key in ("sessions", "n_neurons")}),
        },
        split=names,
        split_sha256=split_sha256({part: list(own) for part, own in names.items()}),
        fingerprint=_fingerprint(sessions),
        built_in_data=data.path is None,
        left_out=left_out,
        notes=notes + _notes(sessions, specs, objective, config),
    )


def _sessions(
    data: CalciumDataBlock, field: tuple[int, int]
) -> tuple[list[Session], list[tuple[str, str]], list[str]]:
    left_out: list[tuple[str, str]] = []
    if data.path is None:
        found = built_in_sessions()
    else:
        found = []
        first: InputError | None = None
        for path in find_sources(Path(data.path)):
            try:
                found += open_sessions(path, data.rate_hz)
            except InputError as error:
                first = first or error
                left_out.append((path.name, f"{error.where}: {error.message}"))
        if not found and first is not None:
            raise first
    found.sort(key=lambda session: session.name)
    found = found[: data.max_sessions]
    usable = []
    for session in found:
        if len(centres_of(session.segments["train"], field)):
            usable.append(session)
        else:
            left_out.append(
                (
                    session.name,
                    f"no training segment is as long as the receptive field, {sum(field)} frames",
                )
            )
    if not usable:
        named = "; ".join(f"{name}: {reason}" for name, reason in left_out[:3])
        raise NeuroError(f"no session can be used ({named})", where=data.path)
    if data.highpass_hz is not None:
        usable = [highpassed(session, data.highpass_hz) for session in usable]
    if data.segments == "glue":
        usable = [glued(session, field) for session in usable]
    sessions, notes = apply_mode(usable, data.mode)
    return sessions, left_out, notes


def _known(sessions: Sequence[Session], like: Mapping[str, Any]) -> tuple[list[Session], list[str]]:
    """Return the sessions that a model was trained on, in its order."""
    by_name = {session.name: session for session in sessions}
    found, notes = [], []
    for name, count in zip(like["sessions"], like["n_neurons"], strict=True):
        session = by_name.get(name)
        if session is None:
            raise NeuroError(
                f"the model has an input layer for session {name}, which is not in this data "
                f"({', '.join(sorted(by_name)[:_FEW])})",
                where="--data",
                hint="adapt it first: neuro train MODEL --data NEW --init-from CKPT --freeze",
            )
        if session.n_neurons != count:
            raise NeuroError(
                f"session {name} has {session.n_neurons} neurons, the model was trained on {count}",
                where="--data",
                hint="give the same session, or adapt: --init-from CKPT --freeze",
            )
        found.append(session)
    others = sorted(set(by_name) - set(like["sessions"]))
    if others:
        notes.append(f"sessions without an input layer are not judged: {', '.join(others[:_FEW])}")
    return found, notes


def _objective(task: CalciumTaskBlock, specs: Sequence[LabelSpec]) -> str:
    return task.objective or ("labels" if specs else "time")


def _recordings(
    sessions: Sequence[Session], specs: Sequence[LabelSpec], field: tuple[int, int]
) -> Recordings:
    coded = [
        classes_and_values(session, specs)
        if specs
        else (np.full(session.n_frames, -1, dtype=np.int64), np.zeros((session.n_frames, 1)))
        for session in sessions
    ]
    about = About(
        tuple(session.name for session in sessions),
        (*specs, *truth_spec(sessions)),
        len(specs),
        tuple(session.rate_hz for session in sessions),
    )
    return Recordings(sessions, [key for key, _ in coded], [v for _, v in coded], field, about)


def make_samplers(
    recordings: Recordings, task: CalciumTaskBlock, objective: str, part: str = "train"
) -> dict[str, Sampler]:
    """Return the samplers of an objective over the windows of a part.

    Args:
        recordings: The sessions.
        task: Offsets and steps.
        objective: labels, time or hybrid.
        part: Whose windows.

    Raises:
        NeuroError: A session has no pair.
    """
    points = [recordings.points(number, part) for number in range(len(recordings.sessions))]
    found: dict[str, Sampler] = {}
    if objective in ("labels", "hybrid"):
        found["labels"] = LabelPairs(points, task.time_offsets[0], task.delta)
    if objective in ("time", "hybrid"):
        found["time"] = TimePairs(points, task.time_offsets)
    return found


def _parts(
    recordings: Recordings, config: RunConfig, objective: str, *, is_trained: bool
) -> dict[Part, SampleSet]:
    if is_trained:
        # Decoders are fitted on the training part and set on the validation part, so both come
        # along with what is judged.
        fit, choose = recordings.pieces("train", "fit"), recordings.pieces("val", "choose")
        test, val = recordings.pieces("test", "judge"), recordings.pieces("val", "judge")
        train = recordings.pieces("train", "fit judge")
        parts: dict[Part, SampleSet] = {}
        for part, pieces, more in (
            ("train", train, choose), ("val", val, fit), ("test", test, fit + choose)
        ):  # fmt: skip
            if pieces:
                parts[cast(Part, part)] = PieceSet(recordings, [*more, *pieces])
        return parts
    data, task = cast(CalciumDataBlock, config.data), cast(CalciumTaskBlock, config.task)
    samplers = make_samplers(recordings, task, objective)
    longest = max(frames_in(session.segments["train"]) for session in recordings.sessions)
    steps = data.epoch_steps or max(_MIN_STEPS, longest // data.batch_size)
    is_dense = data.sampling == "dense" or (
        data.sampling == "auto"
        and longest < (_DENSE_SHARE if sum(recordings.field) > 1 else 2) * data.batch_size
    )
    slots = SlotSet(recordings, samplers, steps * data.batch_size, config.run.seed, is_dense)
    found: dict[Part, SampleSet] = {"train": slots}
    val = recordings.pieces("val", "judge")
    if val:
        found["val"] = PieceSet(recordings, val)
    return found


def _fingerprint(sessions: Sequence[Session]) -> str:
    digest = hashlib.sha256()
    for session in sessions:
        digest.update(f"{session.name} {session.n_frames} {session.neurons}".encode())
        for part in PARTS:
            digest.update(session.segments[part].tobytes())
        some = np.linspace(0, session.n_frames - 1, 64).astype(np.int64)
        digest.update(session.rows(some).tobytes())
    return digest.hexdigest()


def _notes(
    sessions: Sequence[Session], specs: Sequence[LabelSpec], objective: str, config: RunConfig
) -> list[str]:
    data, task = cast(CalciumDataBlock, config.data), cast(CalciumTaskBlock, config.task)
    notes = [f"{session.name}: {repair}" for session in sessions for repair in session.repairs]
    splits = list(dict.fromkeys(session.split for session in sessions))
    notes.append(f"parts: {'; '.join(splits)}")
    if data.path is None:
        notes.append("built-in synthetic sessions: figures say nothing about real brains")
    if objective != "time":
        notes.append(f"positives share {', '.join(spec.name for spec in specs)}")
    elif len(sessions) > 1:
        notes.append("time tells windows apart within a session: sessions are not aligned")
    if data.batch_size < 64:
        notes.append(
            f"batches of {data.batch_size} leave as many negatives per window: embeddings "
            "hardly improve on chance; 512 is the default"
        )
    if task.null != "none":
        notes.append(f"control run: labels were spoiled by '{task.null}'")
    return notes
