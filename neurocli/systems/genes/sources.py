"""Which files of a folder are latents and which are gene tables, and what they hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurocli.core.data.npz import read_array
from neurocli.core.data.number_tables import column_names, read_numbers
from neurocli.core.errors import InputError, NeuroError, UsageError
from neurocli.core.names import choices_text
from neurocli.systems.genes.config import LatentsOptions
from neurocli.systems.genes.ids import is_withdrawn, shown
from neurocli.systems.genes.latent_names import latent_names

Float32 = npt.NDArray[np.float32]
# Names under which programs save a latent, the likeliest first; autoencoders give mean and sigma.
PREFERRED = ("latent", "z", "z_mu", "mu", "mean", "brain_latent", "embedding", "data", "arr_0")
_GENE_SUFFIX = "_brain_gene_embedding"
_TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", ".txt")
_NUMBERED = re.compile(r"(?:emb|embedding|dim|e|v|x)?_?(\d+)", re.IGNORECASE)
_NOT_FEATURES = frozenset({"", "unnamed: 0", "fid", "eid", "iid", "index"})


def latent_files(folder: Path, pattern: str) -> tuple[dict[str, Path], list[str]]:
    """Return the latent files of a folder by id, as `latent_names` finds them.

    Args:
        folder: Of latents.
        pattern: File name with `{iid}`.

    Returns:
        id -> file, sorted by id, and notes.

    Raises:
        InputError: The folder is missing, or holds no array.
        UsageError: The pattern has no `{iid}`, or two files have one id.
    """
    names, notes = latent_names(folder, pattern)
    return {owner: folder / name for owner, name in names.items()}, notes


@dataclass
class LatentReader:
    """Read latents one by one, all of the first one's size; what cannot be used is listed.

    Args:
        options: How.
        shape: Shape of the first latent without leading axes of length 1; empty before it.
        left_out: (id, reason) of those that could not be used.
        nonfinite: Ids whose NaN and Inf were met.
    """

    options: LatentsOptions
    shape: list[int]
    left_out: list[list[str]]
    nonfinite: list[str]

    def rows(self, files: dict[str, Path]) -> Iterator[tuple[str, Float32]]:
        """Yield (id, values (P,) float32).

        Raises:
            InputError: NaN or Inf while they are refused; or nothing could be read.
        """
        n_read = 0
        for owner, path in files.items():
            try:
                row = self.read(path)
            except InputError as error:
                self.left_out.append([owner, f"{path.name}: {error.message}"])
                continue
            if not np.isfinite(row).all():
                self.nonfinite.append(owner)
                if self.options.nonfinite == "error":
                    continue
                if self.options.nonfinite == "drop":
                    self.left_out.append([owner, f"{path.name}: holds NaN or Inf"])
                    continue
                row = np.nan_to_num(row, nan=0.0, posinf=0.0, neginf=0.0)
            n_read += 1
            yield owner, row
        self._judge(files, n_read)

    def _judge(self, files: dict[str, Path], n_read: int) -> None:
        folder = next(iter(files.values())).parent
        if self.nonfinite and self.options.nonfinite == "error":
            raise InputError(
                folder,
                f"{len(self.nonfinite)} latents hold NaN or Inf: {shown(self.nonfinite)}",
                "leave them out with nonfinite=drop, or set these numbers to 0 with nonfinite=zero",
            )
        if not n_read:
            raise InputError(
                folder, f"no latent can be read; {self.left_out[0][1]}", "repair the files"
            )

    def read(self, path: Path) -> Float32:
        """Return one latent as (P,) float32.

        Raises:
            InputError: The file is damaged, or of another size than the first.
        """
        array = read_array(path, key=self.options.npz_key, preferred=PREFERRED)
        shape = list(array.shape)
        while len(shape) > 1 and shape[0] == 1:
            shape = shape[1:]
        wanted = list(self.options.latent_shape or self.shape)
        if wanted and prod(shape) != prod(wanted):
            raise InputError(
                path, f"has shape {_sizes(shape)}, expected {_sizes(wanted)}", "leave it out"
            )
        if not wanted and prod(shape) == 0:
            raise InputError(path, "holds no numbers", "leave it out")
        self.shape[:] = self.shape or (wanted or shape)
        return array.reshape(-1).astype(np.float32)


def _sizes(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def gene_files(source: Path, name: str | None = None) -> dict[str, Path]:
    """Return the gene tables of a folder or a single file, by gene name.

    Args:
        source: A table, or a folder with tables `{GENE}_brain_gene_embeddingUKB.csv`; in such a
            folder other tables are left alone.
        name: Name of the gene of a single table; None takes it from the file's name.

    Raises:
        InputError: The source is missing or holds no table.
        UsageError: Two tables are of one gene.
    """
    if source.is_file():
        return {name or gene_of(source): source}
    if not source.is_dir():
        raise InputError(source, "does not exist", "give a gene table or a folder of them")
    tables = sorted(
        p for p in source.iterdir() if p.name.lower().endswith(_TABLES) and p.name[0] != "."
    )
    marked = [path for path in tables if _GENE_SUFFIX in path.name]
    if not (marked or tables):
        raise InputError(
            source,
            "holds no gene table",
            "tables are called {GENE}_brain_gene_embeddingUKB.csv (or .tsv, .parquet)",
        )
    found: dict[str, Path] = {}
    for path in marked or tables:
        gene = gene_of(path)
        if gene in found:
            raise UsageError(
                f"{found[gene].name} and {path.name} are both tables of {gene}",
                where=str(source),
                hint="keep one of them",
            )
        found[gene] = path
    return found


def gene_of(path: Path) -> str:
    """Return the gene that a table is named after.

    >>> gene_of(Path("APOE_brain_gene_embeddingUKB.csv")), gene_of(Path("BDNF.csv.gz"))
    ('APOE', 'BDNF')
    """
    name = path.name
    for suffix in sorted(_TABLES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    before, found, _ = name.partition(_GENE_SUFFIX)
    return before if found and before else name


def read_gene(path: Path, options: LatentsOptions) -> tuple[list[str], Float32, list[str]]:
    """Return a gene table without people who withdrew and without repeated rows.

    Args:
        path: The table.
        options: Names of columns, expected width, what to do with repeats and NaN.

    Returns:
        Ids, values (S, d) float32, and notes.

    Raises:
        InputError: Columns are missing or too many, or cells are no finite numbers.
        UsageError: A person has different rows.
    """
    names = column_names(path)
    by_name = {name.lower(): name for name in reversed(names)}
    id_column = by_name.get(options.iid_column.lower())
    if id_column is None:
        raise InputError(
            path,
            f"has no column '{options.iid_column}'",
            f"it has {choices_text(names)}; name the column of ids with iid_column",
        )
    columns = feature_columns(path, [n for n in names if n != id_column], options.gene_dim)
    table = read_numbers(path, id_column=id_column, columns=columns)
    ids, values = table.ids, table.values
    bad = np.flatnonzero(~np.isfinite(values).all(1))
    notes = []
    keep = np.ones(len(ids), dtype=bool)
    if len(bad):
        text = f"{len(bad)} people have blank, NaN or infinite cells: {shown(ids[i] for i in bad)}"
        if options.nonfinite == "error":
            raise InputError(path, text, "leave them out with nonfinite=drop")
        if options.nonfinite == "drop":
            keep[bad] = False
            notes.append(f"{path.name}: {text}; they are left out")
        else:
            values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
            notes.append(f"{path.name}: {text}; these cells are set to 0")
    gone = [i for i, owner in enumerate(ids) if not owner or is_withdrawn(owner)]
    if gone:
        keep[gone] = False
        notes.append(f"{path.name}: {len(gone)} rows without an id or of people who withdrew")
    ids, values = [owner for owner, kept in zip(ids, keep, strict=True) if kept], values[keep]
    return _without_repeats(path, ids, values, options, notes)


def feature_columns(path: Path, names: Sequence[str], expected: int | None) -> list[str]:
    """Return the columns of a gene vector in their order: by number where all carry one.

    >>> feature_columns(Path("t.csv"), ["FID", "emb_10", "emb_2"], None)
    ['emb_2', 'emb_10']

    Raises:
        InputError: There are none, not as many as expected, or two of one name.
    """
    numbered = {name: int(m[1]) for name in names if (m := re.fullmatch(r"emb_(\d+)", name))}
    if numbered:
        found = sorted(numbered, key=lambda name: numbered[name])
    else:
        found = [name for name in names if name.strip().lower() not in _NOT_FEATURES]
        numbers = [_NUMBERED.fullmatch(name) for name in found]
        if found and all(numbers):
            found.sort(key=lambda name: int(_NUMBERED.fullmatch(name)[1]))  # type: ignore[index]
    repeated = [name for name in dict.fromkeys(found) if names.count(name) > 1]
    if repeated:
        raise InputError(
            path, f"has columns of one name: {choices_text(repeated)}", "name each column once"
        )
    if (expected is not None and len(found) != expected) or not found:
        known = set(numbered.values())
        missing = [f"emb_{i}" for i in range(expected or 0) if i not in known] if known else []
        extra = [f"emb_{i}" for i in sorted(known) if expected is not None and i >= expected]
        told = f"; missing {choices_text(missing)}" if missing else ""
        told += f"; more are {choices_text(extra)}" if extra else ""
        raise InputError(
            path,
            f"has {len(found)} columns of numbers, expected {expected or 'some'}{told}",
            "give the right table, or the width with gene_dim",
        )
    return found


def _without_repeats(
    path: Path, ids: list[str], values: Float32, options: LatentsOptions, notes: list[str]
) -> tuple[list[str], Float32, list[str]]:
    places: dict[str, list[int]] = {}
    for place, owner in enumerate(ids):
        places.setdefault(owner, []).append(place)
    repeats = {owner: rows for owner, rows in places.items() if len(rows) > 1}
    if not repeats:
        if not ids:
            raise InputError(path, "holds no usable row", "give another table")
        return ids, values, notes
    differing = [o for o, rows in repeats.items() if (values[rows] != values[rows[0]]).any()]
    if differing and options.duplicates == "error":
        raise UsageError(
            f"{len(differing)} people have several, different rows: {shown(differing)}",
            where=str(path),
            hint="choose duplicates=first or duplicates=mean, or repair the table",
        )
    kept = [rows[0] for rows in places.values()]
    chosen = values[kept]
    if differing and options.duplicates == "mean":
        for place, rows in enumerate(places.values()):
            chosen[place] = values[rows].mean(0)
    how = "their mean is" if differing and options.duplicates == "mean" else "the first one is"
    notes.append(f"{path.name}: {len(repeats)} people have several rows; {how} taken")
    return list(places), chosen, notes


def refuse_nothing(found: object, source: Path) -> None:
    """Refuse a source in which neither latents nor gene tables were found.

    Raises:
        NeuroError: There are none.
    """
    if not found:
        raise NeuroError(
            "holds neither latents nor gene tables",
            where=str(source),
            hint="latents are {IID}_latent.npz, gene tables {GENE}_brain_gene_embeddingUKB.csv",
        )
