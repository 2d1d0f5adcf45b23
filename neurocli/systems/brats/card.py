"""The door of the tumour room: segmentation of gliomas in multi-modal MRI."""

from __future__ import annotations

from neurocli.core.catalog import DatasetCard, RoomCard, TaskCard
from neurocli.systems.brats.families import model_cards

_ROOM = "neurocli.systems.brats"


_REGIONS = ("wt", "tc", "et")
# Columns that scripts around this family of models read, in their order.
_RESULTS = {
    **{
        f"{part}_{short}": (part, f"dice_{name}")
        for part in ("test", "val")
        for short, name in (("dice", "mean"), *((region, region) for region in _REGIONS))
    },
    "precision": ("test", "precision"),
    "recall": ("test", "recall"),
    "best_epoch": ("run", "best_epoch"),
    **{f"test_hd95_{name}": ("test", f"hd95_{name}") for name in (*_REGIONS, "mean")},
}
_EPOCHS = {
    "train_loss": ("train", "loss"),
    "train_dice": ("train", "dice"),
    "val_loss": ("val", "loss"),
    **{name: pair for name, pair in _RESULTS.items() if pair[0] == "val"},
    "test_dice": ("test", "dice_mean"),
}


def _raw(name: str, summary: str) -> DatasetCard:
    return DatasetCard(
        name=name,
        summary=summary,
        find=f"{_ROOM}.discover:find_cases",
        process=f"{_ROOM}.prepare:process_case",
        options=f"{_ROOM}.blocks:PreprocessOptions",
    )


ROOM = RoomCard(
    name="brats",
    summary="tumour segmentation in 3D MRI: 85 networks over named modalities",
    models=tuple(model_cards()),
    datasets=(
        _raw("brats2018", "BraTS 2018 tree with HGG and LGG; labels 0 1 2 4"),
        _raw("brats2021", "BraTS 2021 tree; labels 0 1 2 4"),
        _raw("brats2023", "BraTS 2023 naming (t1n t1c t2w t2f); labels 0 1 2 3"),
    ),
    tasks=(
        TaskCard(
            "segmentation",
            "label every voxel: necrotic core, edema, enhancing tumour",
            "supervised",
            f"{_ROOM}.task:SegmentationTask",
        ),
    ),
    presets=f"{_ROOM}.presets",
    data_config=f"{_ROOM}.blocks:BratsDataBlock",
    task_config=f"{_ROOM}.blocks:BratsTaskBlock",
    open_data=f"{_ROOM}.data:open_data",
    figures=f"{_ROOM}.report:figures",
    cost=f"{_ROOM}.cost:clip_cost",
    outline=f"{_ROOM}.outline:outline",
    strata=("grade",),
    results=_RESULTS,
    epochs=_EPOCHS,
    compared=("test_dice", "val_dice", "precision", "recall"),
)
