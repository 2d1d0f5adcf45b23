"""Confounds and filters, against nilearn on the whole run and against signals made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_files import ball, bold, item_of, options, write_nifti

from neurocli.core.errors import InputError
from neurocli.systems.fmri import clean as module
from neurocli.systems.fmri.confounds import find_confounds, read_confounds
from neurocli.systems.fmri.prepare import process_run
from neurocli.systems.fmri.store import RunStore, open_store

N_FRAMES = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "item"
    path.mkdir()
    return path


def table(path: Path, columns: dict[str, np.ndarray]) -> Path:
    names = list(columns)
    rows = [
        "\t".join("n/a" if np.isnan(v) else f"{v:.9g}" for v in row)
        for row in np.stack(list(columns.values()), axis=1)
    ]
    path.write_text("\n".join(["\t".join(names), *rows]) + "\n")
    return path


def motion(seed: int = 1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    names = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
    return {name: random.standard_normal(N_FRAMES) for name in names}


def process(path: Path, folder: Path, details: dict[str, Any], **chosen: Any) -> RunStore:
    process_run(item_of(path, **details), folder, options(**chosen))
    return open_store(folder / "bold.h5")


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_confounds_are_gone_and_levels_stay(
    tmp_path: Path, folder: Path, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_COLUMN_BYTES", 8 * N_FRAMES * 100)  # many small blocks
    columns = motion()
    values = bold(n_frames=N_FRAMES, outside=0)
    drift = 50 * columns["trans_x"] + 30 * columns["rot_z"]
    values[ball()] += drift.astype(np.float32)
    path = write_nifti(tmp_path / "x.nii.gz", np.rint(values).astype(dtype))
    details = {"confounds": table(tmp_path / "c.tsv", columns)}
    store = process(path, folder, details, confounds="6p")
    cleaned = store.read_packed(slice(None)).astype(np.float64)
    raw = np.rint(values)[store.mask].T.astype(np.float64)
    np.testing.assert_allclose(cleaned.mean(axis=0), raw.mean(axis=0), rtol=1e-5)
    # Ordinary least squares on centred signals is the referee.
    design = np.stack(list(columns.values()), axis=1)
    design = np.column_stack([np.ones(N_FRAMES), design])
    fitted = design @ np.linalg.lstsq(design, raw, rcond=None)[0]
    np.testing.assert_allclose(cleaned - cleaned.mean(axis=0), raw - fitted, atol=2e-2)
    np.testing.assert_allclose(store.voxel_std_V, cleaned.std(axis=0, ddof=1), rtol=1e-4)
    assert store.stats.global_std == pytest.approx(cleaned.std(ddof=1), rel=1e-4)


def test_a_band_of_frequencies_is_kept(tmp_path: Path, folder: Path) -> None:
    from nilearn.signal import clean

    values = bold(n_frames=N_FRAMES, outside=0)
    path = write_nifti(tmp_path / "x.nii.gz", values, tr_s=2.0)
    store = process(path, folder, {}, high_pass_hz=0.01, low_pass_hz=0.1)
    raw = values[store.mask].T.astype(np.float64)
    theirs = clean(
        raw - raw.mean(axis=0),
        detrend=False,
        standardize=None,
        high_pass=0.01,
        low_pass=0.1,
        t_r=2.0,
    )
    wanted = theirs - theirs.mean(axis=0) + raw.mean(axis=0)
    np.testing.assert_allclose(store.read_packed(slice(None)), wanted, rtol=1e-5)


def test_scaling_comes_after_cleaning(tmp_path: Path, folder: Path) -> None:
    path = write_nifti(tmp_path / "x.nii.gz", bold(n_frames=N_FRAMES, outside=0), tr_s=2.0)
    store = process(path, folder, {}, high_pass_hz=0.02, scaling="voxel-z")
    values = store.read_packed(slice(None))
    np.testing.assert_allclose(values.std(axis=0, ddof=1), 1, rtol=1e-4)


def test_what_was_done_is_said(tmp_path: Path, folder: Path) -> None:
    path = write_nifti(tmp_path / "x.nii.gz", bold(n_frames=N_FRAMES, outside=0), tr_s=2.0)
    item = item_of(path, confounds=table(tmp_path / "c.tsv", motion()))
    fields = process_run(item, folder, options(confounds="6p", low_pass_hz=0.1))
    assert fields["notes"] == [
        "6 confounds (6p) were regressed out, changes of 0 to 0.1 Hz were kept; "
        "voxel means were kept"
    ]
    assert fields["dtype"] == "float32"


@pytest.mark.parametrize(
    ("chosen", "tr_s", "message"),
    [
        ({"low_pass_hz": 0.1}, None, "no repetition time is known"),
        ({"low_pass_hz": 0.3}, 2.0, "--low-pass 0.3 Hz cannot be told"),
        ({"confounds": "6p"}, 2.0, "has no confounds table"),
        ({"high_pass_hz": 0.01, "low_pass_hz": 0.1}, 2.0, "20 frames are too few for the filter"),
    ],
)
def test_what_cannot_be_done_is_refused(
    tmp_path: Path, folder: Path, chosen: dict[str, Any], tr_s: float | None, message: str
) -> None:
    path = write_nifti(tmp_path / "x.nii.gz", bold(n_frames=20, outside=0), tr_s=tr_s)
    with pytest.raises(InputError, match=message):
        process(path, folder, {}, **chosen)
    assert not list(folder.iterdir())


def test_more_confounds_than_frames_are_refused(tmp_path: Path, folder: Path) -> None:
    path = write_nifti(tmp_path / "x.nii.gz", bold(n_frames=6, outside=0))
    columns = {name: column[:6] for name, column in motion().items()}
    with pytest.raises(InputError, match="6 confounds would leave nothing of 6 frames"):
        process(path, folder, {"confounds": table(tmp_path / "c.tsv", columns)}, confounds="6p")


# --- tables -----------------------------------------------------------------------------------


def test_first_values_of_derivatives_are_filled(tmp_path: Path) -> None:
    column = np.array([np.nan, 1.0, 2.0, 6.0])
    path = table(tmp_path / "c.tsv", {"trans_x_derivative1": column, "csf": np.ones(4)})
    signals, names = read_confounds(path, "trans_x_*,csf", 4)
    assert names == ["trans_x_derivative1", "csf"]
    np.testing.assert_array_equal(signals[:, 0], [3, 1, 2, 6])


def test_old_names_are_known(tmp_path: Path) -> None:
    columns = dict(zip(["X", "Y", "Z", "RotX", "RotY", "RotZ"], motion().values(), strict=True))
    path = table(tmp_path / "c.tsv", columns | {"CSF": np.ones(N_FRAMES)})
    assert read_confounds(path, "6p", N_FRAMES)[1] == ["X", "Y", "Z", "RotX", "RotY", "RotZ"]


@pytest.mark.parametrize(
    ("wanted", "n_frames", "message"),
    [
        ("6p", N_FRAMES - 1, "has 60 rows for 59 frames"),
        ("9p", N_FRAMES, "has no column csf"),
        ("bad", N_FRAMES, "bad has no value in 2 frames"),
    ],
)
def test_tables_that_do_not_fit(tmp_path: Path, wanted: str, n_frames: int, message: str) -> None:
    bad = np.ones(N_FRAMES)
    bad[:2] = np.nan
    path = table(tmp_path / "c.tsv", motion() | {"bad": bad})
    with pytest.raises(InputError, match=message):
        read_confounds(path, wanted, n_frames)


def test_words_are_no_confounds(tmp_path: Path) -> None:
    (tmp_path / "c.tsv").write_text("a\tb\n1\tx\n2\ty\n")
    with pytest.raises(InputError, match="holds 'x' where a number is needed"):
        read_confounds(tmp_path / "c.tsv", "b", 2)


@pytest.mark.parametrize("name", ["desc-confounds_timeseries", "desc-confounds_regressors"])
def test_tables_are_found_beside_their_run(tmp_path: Path, name: str) -> None:
    path = table(tmp_path / f"sub-01_task-rest_{name}.tsv", motion())
    assert find_confounds(tmp_path, "sub-01_task-rest") == path
    assert find_confounds(tmp_path, "sub-02_task-rest") is None
