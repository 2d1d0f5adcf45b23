"""The door of the fMRI room: foundation models over 4D volumes."""

from __future__ import annotations

from neurocli.core.catalog import DatasetCard, ModelCard, RoomCard, TaskCard

_ROOM = "neurocli.systems.fmri"
_SUPERVISED = ("classification", "regression")


def _raw(name: str, summary: str, find: str, *, needs_source: bool = True) -> DatasetCard:
    return DatasetCard(
        name=name,
        summary=summary,
        find=f"{_ROOM}.discover:{find}",
        process=f"{_ROOM}.prepare:process_run",
        options=f"{_ROOM}.config:PreprocessOptions",
        needs_source=needs_source,
    )


ROOM = RoomCard(
    name="fmri",
    summary="4D fMRI: self-supervised pretraining, then sex, age or diagnosis",
    models=(
        ModelCard(
            name="fmamba",
            summary="Mamba-2 over 4D patches, trained to predict the next one",
            build=f"{_ROOM}.models.build:build",
            config=f"{_ROOM}.config:FMambaConfig",
            tasks=("ar",),
            tags=("pretraining", "mamba-2"),
        ),
        ModelCard(
            name="fmamba_mlp",
            summary="FMamba with a linear head over the mean token",
            build=f"{_ROOM}.models.build:build_with_head",
            config=f"{_ROOM}.config:FMambaHeadConfig",
            tasks=_SUPERVISED,
            defaults={"head": "mlp"},
            tags=("downstream", "mamba-2"),
        ),
    ),
    datasets=(
        _raw("bids", "a BIDS root or fMRIPrep derivatives; subjects are sub-*", "find_bids"),
        _raw("nifti", "plain .nii or .nii.gz series; one subject per file", "find_nifti"),
        _raw("frames", "folders of frame_{i}.pt; one subject per folder", "find_frames"),
        _raw("dummy", "the built-in synthetic cohort", "find_dummy", needs_source=False),
    ),
    tasks=(
        TaskCard("ar", "predict the next patch", "pretrain", f"{_ROOM}.task:ArTask"),
        TaskCard(
            "classification",
            "predict a class",
            "supervised",
            f"{_ROOM}.supervised:ClassificationTask",
        ),
        TaskCard(
            "regression", "predict a number", "supervised", f"{_ROOM}.supervised:RegressionTask"
        ),
    ),
    presets=f"{_ROOM}.presets",
    data_config=f"{_ROOM}.config:FmriDataBlock",
    task_config=f"{_ROOM}.config:FmriTaskBlock",
    open_data=f"{_ROOM}.data:open_data",
    convert=f"{_ROOM}.convert:convert_hdf5",
    figures=f"{_ROOM}.report:figures",
    cost=f"{_ROOM}.cost:clip_cost",
)
