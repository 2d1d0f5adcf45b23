"""The door of the fMRI room: foundation models over 4D volumes."""

from __future__ import annotations

from neurocli.core.catalog import DatasetCard, ModelCard, RoomCard, TaskCard

_ROOM = "neurocli.systems.fmri"
_SUPERVISED = ("classification", "regression")


def _raw(name: str, summary: str, find: str, *, needs_source: bool = True) -> DatasetCard:
    return DatasetCard(
        name=name,
        summary=summary,
        find=f"{_ROOM}.{find}",
        process=f"{_ROOM}.prepare:process_run",
        options=f"{_ROOM}.config:PreprocessOptions",
        needs_source=needs_source,
    )


def _with_head(name: str, head: str, summary: str) -> ModelCard:
    return ModelCard(
        name=name,
        summary=f"FMamba with {summary}",
        build=f"{_ROOM}.models.build:build_with_head",
        config=f"{_ROOM}.config:FMambaHeadConfig",
        tasks=_SUPERVISED,
        defaults={"head": head},
        tags=("downstream", "mamba-2"),
    )


ROOM = RoomCard(
    name="fmri",
    summary="4D fMRI: self-supervised pretraining, then sex, age or diagnosis",
    models=(
        ModelCard(
            name="fmamba",
            summary="Mamba-2 over 4D patches, pretrained without labels",
            build=f"{_ROOM}.models.build:build",
            config=f"{_ROOM}.config:FMambaConfig",
            tasks=("ar", "mim", "contrastive"),
            tags=("pretraining", "mamba-2"),
        ),
        _with_head("fmamba_mlp", "mlp", "a linear head over the mean token"),
        _with_head("fmamba_conv_mlp", "conv", "strided convolutions over the tokens, then linear"),
        _with_head("fmamba_mamba_head", "mamba", "Mamba-1 layers whose last token is read"),
        _with_head(
            "fmamba_mamba_head_fn", "mamba_fn", "pre-norm Mamba-1 layers and a norm at the end"
        ),
    ),
    datasets=(
        _raw(
            "bids", "a BIDS root or fMRIPrep derivatives; subjects are sub-*", "find_bids:find_bids"
        ),
        _raw("nifti", "plain .nii or .nii.gz series; one subject per file", "discover:find_nifti"),
        _raw("s1200", "Human Connectome Project, young adults", "find_cohort:find_s1200"),
        _raw("abcd", "Adolescent Brain Cognitive Development study", "find_cohort:find_abcd"),
        _raw("ukb", "UK Biobank", "find_cohort:find_ukb"),
        _raw("hbn", "Healthy Brain Network", "find_cohort:find_hbn"),
        _raw("abide", "Autism Brain Imaging Data Exchange, I and II", "find_cohort:find_abide"),
        _raw("adni", "Alzheimer's Disease Neuroimaging Initiative", "find_cohort:find_adni"),
        _raw("frames", "folders of frame_{i}.pt; one subject per folder", "discover:find_frames"),
        _raw("dummy", "the built-in synthetic cohort", "dummy:find_dummy", needs_source=False),
    ),
    tasks=(
        TaskCard("ar", "predict the next patch", "pretrain", f"{_ROOM}.task:ArTask"),
        TaskCard("mim", "predict hidden patches", "pretrain", f"{_ROOM}.mim:MimTask"),
        TaskCard(
            "contrastive",
            "tell people apart by two clips of each",
            "pretrain",
            f"{_ROOM}.contrast:ContrastiveTask",
        ),
        TaskCard(
            "classification",
            "predict a class",
            "supervised",
            f"{_ROOM}.classification:ClassificationTask",
        ),
        TaskCard(
            "regression", "predict a number", "supervised", f"{_ROOM}.regression:RegressionTask"
        ),
    ),
    presets=f"{_ROOM}.presets",
    data_config=f"{_ROOM}.config:FmriDataBlock",
    task_config=f"{_ROOM}.config:FmriTaskBlock",
    open_data=f"{_ROOM}.data:open_data",
    convert=f"{_ROOM}.convert:convert_hdf5",
    check=f"{_ROOM}.upkeep:check_runs",
    figures=f"{_ROOM}.report:figures",
    cost=f"{_ROOM}.cost:clip_cost",
    recognise=f"{_ROOM}.official:recognise",
    official_names=f"{_ROOM}.official:official_names",
)
