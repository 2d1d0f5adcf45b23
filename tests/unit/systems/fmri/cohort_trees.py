"""One small cohort per row, in the folders and tables in which it is handed out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from run_files import bold, write_nifti

SMALL = (12, 13, 11)


def run(path: Path, *, seed: int = 0, tr_s: float | None = 2.0) -> Path:
    """Write a small stripped run."""
    values = np.rint(bold(SMALL, 6, seed=seed, outside=0)).astype(np.int16)
    return write_nifti(path, values, tr_s=tr_s)


def frames(folder: Path, *, seed: int = 0) -> Path:
    """Write a run as `frame_{i}.pt` with its statistics."""
    folder.mkdir(parents=True)
    values = bold(SMALL, 6, seed=seed, outside=0)
    for index in range(6):
        volume = torch.from_numpy(values[..., index : index + 1].copy()).half()
        torch.save(volume, folder / f"frame_{index}.pt")
    inside = values[values != 0]
    stats = {
        "valid_voxels": inside.size,
        "global_mean": torch.tensor(float(inside.mean())),
        "global_std": torch.tensor(float(inside.std())),
        "global_max": torch.tensor(float(inside.max())),
    }
    torch.save(stats, folder / "global_stats.pt")
    return folder


def table(path: Path, text: str, encoding: str = "utf-8") -> None:
    """Write a metadata table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


def s1200(root: Path) -> None:
    """Write four folders deep, several runs each; ages lie in a table of another order."""
    for person, runs in {"100206": ("REST1_LR", "REST1_RL"), "100307": ("REST1_LR",)}.items():
        for name in runs:
            folder = root / person / "MNINonLinear" / "Results" / f"rfMRI_{name}"
            run(folder / f"rfMRI_{name}_hp2000_clean.nii.gz")
            run(folder / f"rfMRI_{name}.nii.gz")
            run(folder / f"rfMRI_{name}_SBRef.nii.gz")
    table(
        root / "metadata" / "HCP_1200_gender.csv",
        "Subject,Release,Gender,CogTotalComp_AgeAdj\n"
        "100206,S900,M,122.0\n100307,Q1,F,\n100408,Q3,M,101.5\n",
    )
    table(
        root / "metadata" / "HCP_1200_precise_age.csv",
        "subject,age\n100408,33\n100307,27\n100206,28\n",
    )


def abcd(root: Path) -> None:
    """Write BIDS with two visits; the table has a second header line, as NDA hands it out."""
    for person, visits in {
        "NDARINV003RTV85": ("base", "year2"),
        "NDARINV00BD7VDC": ("base",),
    }.items():
        for visit in visits:
            stem = f"sub-{person}_ses-{visit}_task-rest_run-01"
            func = root / f"sub-{person}" / f"ses-{visit}" / "func"
            run(func / f"{stem}_space-MNI152NLin6Asym_desc-preproc_bold.nii.gz")
            run(func / f"{stem}_bold.nii.gz")
    table(
        root / "metadata" / "ABCD_phenotype_total.csv",
        '"subjectkey","sex","age","nihtbx_totalcomp_uncorrected","site_id_l"\n'
        '"The NDAR Global Unique Identifier (GUID)","Sex","Age, in months","Score","Site"\n'
        '"NDAR_INV003RTV85","F","131","84","site06"\n'
        '"NDAR_INV00BD7VDC","2","121","n/a","site20"\n',
    )


def ukb(root: Path) -> None:
    """Write frames of the family beside one unpacked download."""
    frames(root / "img" / "1000012_20227_2_0", seed=1)
    run(root / "1000025_20227_2_0" / "fMRI" / "rfMRI.ica" / "filtered_func_data_clean.nii.gz")
    run(root / "1000025_20227_2_0" / "fMRI" / "rfMRI.nii.gz")
    run(root / "1000038_20227_3_0.nii.gz")  # a later visit
    table(
        root / "metadata" / "UKB_phenotype_depression_included.csv",
        ",eid,sex,age,fluid,Depressed.Current\n0,1000025,1.0,63,7,0\n1,1000012,0.0,55,,1\n",
    )


def hbn(root: Path) -> None:
    """Write BIDS of rest and film; sex is coded 0 male, 1 female."""
    for person, tasks in {"NDARAA075AMK": ("rest", "movieDM"), "NDARAB055BPR": ("rest",)}.items():
        for task in tasks:
            stem = f"sub-{person}_task-{task}"
            run(root / f"sub-{person}" / "func" / f"{stem}_bold.nii.gz", tr_s=0.8)
    table(
        root / "HBN_metadata_231212.csv",
        "SUBJECT_ID;Sex;Age;Dx.ndd_HC;Dx.asd_HC;Site\n"
        "NDARAA075AMK;1.0;6.72;1;;CBIC\nNDARAB055BPR;0.0;9.13;0;9;RUBIC\n",
    )


def abide(root: Path) -> None:
    """Write three layouts; the table is Latin-1, repeats an id and writes -9999 for unknown."""
    run(root / "ABIDE_I" / "Pitt" / "0050003" / "session_1" / "rest_1" / "rest.nii.gz")
    run(root / "ABIDE_I" / "pcp" / "Pitt_0050004_func_preproc.nii.gz")
    frames(root / "img" / "ABIDE2" / "29006", seed=2)
    run(root / "ABIDE_I" / "Pitt" / "0050003" / "session_1" / "anat_1" / "mprage.nii.gz")
    table(
        root / "metadata" / "ABIDE1_pheno.csv",
        "SITE_ID,SUB_ID,DX_GROUP,AGE_AT_SCAN,SEX,COMMENT\n"
        "PITT,50003,1,24.45,1,\nPITT,50004,2,-9999,2,caf\xe9\nPITT,50005,1,13.7,1,\n",
        "latin-1",
    )
    table(
        root / "metadata" / "ABIDE2_pheno_total.csv",
        "SITE_ID,SUB_ID,DX_GROUP,AGE_AT_SCAN,SEX\n"
        "ABIDEII-BNI_1,29006,2,48,1\nABIDEII-BNI_1,29006,1,49,1\n",
    )


def adni(root: Path) -> None:
    """Write the folders of a download with structural scans among them."""
    home = root / "ADNI" / "002_S_0295"
    name = "2011-06-02_07_56_36.0"
    run(home / "Resting_State_fMRI" / name / "I238623" / "ADNI_002_S_0295_MR.nii.gz", tr_s=3.0)
    run(home / "MPRAGE" / name / "I238620" / "ADNI_002_S_0295_MR_MPRAGE.nii.gz")
    run(root / "sub-ADNI002S0413_ses-M00_task-rest_bold.nii.gz")
    table(
        root / "ADNI_final_filtered_metadata.csv",
        "SubID,PTGENDER,age_at_scan,DIAGNOSIS,CONVERSION\n"
        "002_S_0295,Male,84.8,CN,0\n002_S_0413,Female,-4,MCI,1\n",
    )


TREES: Mapping[str, Callable[[Path], None]] = {
    "s1200": s1200, "abcd": abcd, "ukb": ukb, "hbn": hbn, "abide": abide, "adni": adni,
}  # fmt: skip
