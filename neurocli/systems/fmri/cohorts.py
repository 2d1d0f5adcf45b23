"""The cohorts that people pretrain on, as rows: where their runs lie and what their tables mean.

A path pattern names a person with the group `id` and tells that person's runs apart with every
other group. Earlier patterns win where one run has several files. Ids are compared as whole numbers
("0050003" is 50003) or as letters and digits ("NDAR_INV0A1B2C3D" is "NDARINV0A1B2C3D").

Codes without an entry in a value map are left out and counted, never passed on: 0 is male in one
cohort and female in another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Triple = tuple[int, int, int]
Pad = tuple[int, int, int, int, int, int]
TargetKind = Literal["classification", "regression"]

_MNI_2MM: Triple = (91, 109, 91)
_NO_YES: Mapping[str, str] = {"0": "no", "1": "yes", "False": "no", "True": "yes"}
_WORDS: Mapping[str, str] = {
    "F": "female", "Female": "female", "female": "female",
    "M": "male", "Male": "male", "male": "male",
}  # fmt: skip


def _sex(**codes: str) -> Mapping[str, str]:
    """Return the words for sex and the codes of a cohort, given as female="2", male="1"."""
    return {**_WORDS, **{code: name for name, code in codes.items()}}


@dataclass(frozen=True)
class Target:
    """Say which column of a table a task learns, and what its cells mean.

    Args:
        columns: Names the column has had; the first that a table holds is taken.
        kind: How it is learned.
        values: Cell -> class; empty for numbers.
    """

    columns: tuple[str, ...]
    kind: TargetKind
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MetadataTable:
    """Say how a table of a cohort names people.

    Args:
        names: Patterns of file names.
        ids: Columns that may hold the id.
    """

    names: tuple[str, ...]
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Cohort:
    """Describe a cohort.

    Args:
        name: Of the row.
        files: Patterns of paths of NIfTI runs below the source.
        frames: Pattern of the name of a folder of `frame_{i}.pt`.
        id_kind: How ids are compared.
        tables: Phenotypes, later ones win; a person's rows are joined by id.
        targets: Column in the dataset -> where it comes from.
        sites: Columns that may name the site.
        families: Columns that may name the family.
        tr_s: Repetition time where a header does not tell, in seconds.
        spaces: Grids that runs of this cohort have: NIfTI, then frames.
        pad: What the SwiFT family pads (or crops, below 0) to 96^3: low and high end of the third,
            second and first axis.
        repeats: What two rows with one id mean.
        encodings: Of the tables, tried in turn.
        missing: Cells that stand for nothing, besides blank ones.
    """

    name: str
    files: tuple[str, ...]
    frames: str
    id_kind: Literal["number", "letters"]
    tables: tuple[MetadataTable, ...]
    targets: Mapping[str, Target]
    tr_s: float
    spaces: tuple[Triple, ...]
    pad: Pad
    sites: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    repeats: Literal["refuse", "last"] = "refuse"
    encodings: tuple[str, ...] = ("utf-8",)
    missing: tuple[str, ...] = ()


def _number(*columns: str) -> Target:
    return Target(columns, "regression")


def _classes(values: Mapping[str, str], *columns: str) -> Target:
    return Target(columns, "classification", values)


def _bids(person: str, tail: str) -> str:
    sessions = r"(?:_ses-(?P<ses>[A-Za-z0-9]+))?"
    return (
        rf"(?:^|/)sub-(?P<id>{person}){sessions}_task-(?P<task>\w+?)(?:_run-(?P<run>\w+?))?{tail}"
    )


_PREPROCESSED = r"(?:_space-MNI\w*?)(?:_res-\w+?)?_desc-preproc_bold\.nii(?:\.gz)?$"
_RAW = r"(?:_echo-\d+)?_bold\.nii(?:\.gz)?$"
_ABCD_ID, _HBN_ID = r"NDAR_?INV[A-Z0-9]{8}", r"NDAR(?!INV)[A-Z0-9]{8}"

S1200 = Cohort(
    name="s1200",
    files=(
        r"(?:^|/)(?P<id>\d{6})/MNINonLinear/Results/(?P<run>[rt]fMRI_\w+)/(?P=run)_hp2000_clean\.nii(?:\.gz)?$",
        r"(?:^|/)(?P<id>\d{6})/MNINonLinear/Results/(?P<run>[rt]fMRI_\w+)/(?P=run)\.nii(?:\.gz)?$",
        r"(?:^|/)(?P<id>\d{6})(?:_(?P<run>[rt]fMRI_\w+?))?\.nii(?:\.gz)?$",
    ),
    frames=r"(?P<id>\d{6})",
    id_kind="number",
    tables=(
        MetadataTable(("HCP_1200_all.csv", "unrestricted_*.csv"), ("subject", "Subject")),
        MetadataTable(("HCP_1200_gender.csv",), ("Subject", "subject")),
        MetadataTable(("HCP_1200_precise_age.csv", "RESTRICTED_*.csv"), ("subject", "Subject")),
    ),
    targets={
        "sex": _classes(_sex(), "Gender", "sex"),
        "age": _number("age", "Age_in_Yrs"),
        "int_total": _number("CogTotalComp_AgeAdj"),
    },
    families=("Family_ID",),
    tr_s=0.72,
    spaces=(_MNI_2MM, (78, 96, 84)),
    pad=(3, 9, 0, 0, 10, 8),
)

UKB = Cohort(
    name="ukb",
    files=(
        r"(?:^|/)(?P<id>\d{7})_20227_2_0/(?:fMRI/)?rfMRI\.ica/filtered_func_data_clean\.nii(?:\.gz)?$",
        r"(?:^|/)(?P<id>\d{7})_20227_2_0/(?:fMRI/)?rfMRI\.nii(?:\.gz)?$",
        r"(?:^|/)(?P<id>\d{7})_20227_2_0\.nii(?:\.gz)?$",
    ),
    frames=r"(?P<id>\d{7})_?20227_2_0",
    id_kind="number",
    tables=(
        MetadataTable(("UKB_phenotype_gps_fluidint.csv",), ("eid",)),
        MetadataTable(("UKB_phenotype*included.csv", "UKB_phenotype.csv"), ("eid",)),
    ),
    targets={
        "sex": _classes(_sex(female="0", male="1"), "sex", "31-0.0"),
        "age": _number("age", "21003-2.0"),
        "int_fluid": _number("fluid", "20016-2.0"),
        "depression_current": _classes(_NO_YES, "Depressed.Current"),
    },
    sites=("54-2.0", "site"),
    tr_s=0.735,
    spaces=(_MNI_2MM, (88, 88, 64), (78, 96, 84)),
    pad=(3, 9, 0, 0, 10, 8),
)

ABCD = Cohort(
    name="abcd",
    files=(_bids(_ABCD_ID, _PREPROCESSED), _bids(_ABCD_ID, _RAW)),
    frames=rf"(?:sub-)?(?P<id>{_ABCD_ID})",
    id_kind="letters",
    tables=(MetadataTable(("ABCD_phenotype_total.csv",), ("subjectkey", "src_subject_id")),),
    targets={
        "sex": _classes(_sex(female="2", male="1"), "sex"),
        "age": _number("age", "interview_age"),
        "int_total": _number("nihtbx_totalcomp_uncorrected"),
    },
    sites=("site_id_l", "abcd_site"),
    families=("rel_family_id",),
    tr_s=0.8,
    spaces=(_MNI_2MM, (97, 115, 97), (96, 96, 95)),
    pad=(0, 1, 0, 0, 0, 0),
)

HBN = Cohort(
    name="hbn",
    files=(_bids(_HBN_ID, _PREPROCESSED), _bids(_HBN_ID, _RAW)),
    frames=rf"(?:sub-)?(?P<id>{_HBN_ID})",
    id_kind="letters",
    tables=(MetadataTable(("HBN_metadata*.csv",), ("SUBJECT_ID", "EID")),),
    targets={
        # The questionnaires of this cohort code 0 male and 1 female.
        "sex": _classes(_sex(female="1", male="0"), "Sex"),
        "age": _number("Age"),
        "ndd_hc": _classes(_NO_YES, "Dx.ndd_HC"),
        "all_hc": _classes(_NO_YES, "Dx.all_HC"),
        "adhd_hc": _classes(_NO_YES, "Dx.adhd_HC"),
        "asd_hc": _classes(_NO_YES, "Dx.asd_HC"),
        # Which of the two a code means is not documented, so the codes stay.
        "adhd_asd": _classes({"0": "0", "1": "1"}, "Dx.adhd_asd"),
    },
    sites=("Site", "Study_Site"),
    tr_s=0.8,
    spaces=(_MNI_2MM, (97, 115, 97), (81, 95, 81)),
    pad=(7, 8, 1, 0, 7, 8),
)

ABIDE = Cohort(
    name="abide",
    files=(
        _bids(r"\d{5,7}", _PREPROCESSED),
        r"(?:^|/)\w+?_(?P<id>\d{7})_func_preproc\.nii(?:\.gz)?$",
        r"(?:^|/)(?P<id>\d{5,7})/session_(?P<ses>\d+)/(?:rest|func)_(?P<run>\d+)/(?:rest|func)\.nii(?:\.gz)?$",
        _bids(r"\d{5,7}", _RAW),
        r"(?:^|/)(?P<id>\d{5,7})\.nii(?:\.gz)?$",
    ),
    frames=r"(?:sub-)?(?P<id>\d{5,7})",
    id_kind="number",
    tables=(
        MetadataTable(("ABIDE1_pheno*.csv", "Phenotypic_V1_0b*.csv"), ("SUB_ID",)),
        MetadataTable(("ABIDE2_pheno*.csv", "ABIDEII_Composite*.csv"), ("SUB_ID",)),
    ),
    targets={
        "sex": _classes(_sex(female="2", male="1"), "SEX"),
        "age": _number("AGE_AT_SCAN", "AGE_AT_SCAN "),
        "asd": _classes({"1": "yes", "2": "no"}, "DX_GROUP"),
    },
    sites=("SITE_ID",),
    tr_s=2.0,
    spaces=(_MNI_2MM, (61, 73, 61), (97, 115, 97)),
    pad=(0, -1, -10, -9, -1, 0),
    repeats="last",
    encodings=("utf-8", "latin-1"),
    missing=("-9999", "-9999.0"),
)

_ADNI_ID = r"\d{3}_?S_?\d{4,5}"

ADNI = Cohort(
    name="adni",
    files=(
        _bids(rf"(?:ADNI)?{_ADNI_ID}", _PREPROCESSED),
        _bids(rf"(?:ADNI)?{_ADNI_ID}", _RAW),
        rf"(?i)(?:^|/)(?P<id>{_ADNI_ID})/[^/]*(?:rest|fmri|func|bold)[^/]*/"
        r"(?P<date>\d{4}-\d\d-\d\d)[^/]*/[^/]+/[^/]+\.nii(?:\.gz)?$",
        rf"(?:^|/)(?P<id>{_ADNI_ID})\.nii(?:\.gz)?$",
    ),
    frames=rf"(?:sub-)?(?:ADNI)?(?P<id>{_ADNI_ID})",
    id_kind="letters",
    tables=(MetadataTable(("ADNI_final_filtered_metadata*.csv",), ("SubID", "PTID")),),
    targets={
        "sex": _classes(_sex(female="2", male="1"), "PTGENDER"),
        "age": _number("age_at_scan"),
        "ad": _classes(
            {"CN": "no", "Dementia": "yes", "AD": "yes", "1": "no", "3": "yes"}, "DIAGNOSIS"
        ),
        "diagnosis": _classes(
            {"CN": "CN", "MCI": "MCI", "Dementia": "AD", "AD": "AD", "1": "CN", "2": "MCI",
             "3": "AD"}, "DIAGNOSIS",
        ),
        "conversion": _classes(_NO_YES, "CONVERSION"),
        "next_diagnosis": _classes(
            {"CN": "CN", "MCI": "MCI", "Dementia": "AD", "AD": "AD", "1": "CN", "2": "MCI",
             "3": "AD"}, "NextDiagnosis",
        ),
    },
    sites=("SITE", "Site"),
    missing=("-4", "-4.0"),
    tr_s=3.0,
    spaces=(_MNI_2MM, (61, 73, 61), (48, 57, 47)),
    pad=(24, 25, 19, 20, 24, 24),
)  # fmt: skip

COHORTS: Mapping[str, Cohort] = {row.name: row for row in (S1200, ABCD, UKB, HBN, ABIDE, ADNI)}
