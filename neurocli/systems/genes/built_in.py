"""The built-in cohort on disk: packed once into the cache, with the truth beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurocli.core.data.cached import made_once
from neurocli.core.data.documents import read_json
from neurocli.core.data.output import ID_COLUMN, PEOPLE_FILE
from neurocli.core.data.tables import write_tsv
from neurocli.core.events import Listener, ignore
from neurocli.core.paths import cache_dir, durable_json, safe_name
from neurocli.systems.genes.config import LatentsOptions
from neurocli.systems.genes.known_truth import UKB_SHAPE, Cohort, CohortSpec
from neurocli.systems.genes.oracle import canonical_of_gene, joint_canonical
from neurocli.systems.genes.pack import write_values

TRUTH = "truth.json"
SPLIT = "split.json"
_VERSION = 1
Float64 = npt.NDArray[np.float64]


def cohort_spec(options: LatentsOptions) -> CohortSpec:
    """Return the cohort that options ask for."""
    spec = UKB_SHAPE if options.cohort == "ukb" else CohortSpec()
    n_genes = options.n_genes or spec.n_genes
    tiers, left = [], n_genes
    for rho, count in spec.tiers:
        tiers.append((rho, min(count, left)))
        left -= tiers[-1][1]
    sizes = spec.sizes
    if options.n_people is not None:
        n_val = max(1, options.n_people * sizes[1] // sum(sizes))
        sizes = (options.n_people - 2 * n_val, n_val, n_val)
    return replace(
        spec,
        seed=spec.seed if options.seed is None else options.seed,
        sizes=sizes,
        n_genes=n_genes,
        tiers=tuple(tiers),
        n_classes=options.n_classes,
        missing=options.missing,
        ancestry=options.ancestry,
        twins=options.twins,
        bends=options.bends,
    )


def write_cohort(folder: Path, spec: CohortSpec) -> None:
    """Write a cohort as blocks, with its people, its split and its truth.

    Args:
        folder: Where; made when missing.
        spec: The cohort.

    Raises:
        NeuroError: The disk refuses.
    """
    cohort, ids = Cohort(spec), spec.ids
    latents, inner = cohort.latents()
    shape = list(spec.latent_shape)
    write_values(folder / "latents", ids, latents, kind="latents", name="latents", shape=shape)
    known = range(len(spec.rhos)) if spec.optimum_is_known else ()
    canonicals = [canonical_of_gene(cohort, gene) for gene in known]
    own: list[Float64] = []
    for gene, name in enumerate(spec.genes):
        values, gene_inner, present = cohort.gene(gene)
        owners = [owner for owner, there in zip(ids, present, strict=True) if there]
        write_values(folder / safe_name(name), owners, values[present], kind="gene", name=name)
        if gene < len(canonicals):
            own.append(np.where(present[:, None], gene_inner @ canonicals[gene].gene, 0.0))
    if canonicals:
        _write_truth(folder, cohort, inner, own)
    truth = {
        "schema": "neuro/gene-truth/1",
        "rhos": dict(zip(spec.genes, spec.rhos, strict=False)),
        "n_shared": spec.n_shared,
        "optimum_is_known": spec.optimum_is_known,
        "ids": ids,
        "spec": asdict(spec),
    }
    durable_json(folder / TRUTH, truth)
    write_people(folder, cohort)
    split = {"schema": "neuro/split/1", "parts": cohort.parts(), "method": "of the cohort"}
    durable_json(folder / SPLIT, split)


def write_people(folder: Path, cohort: Cohort) -> None:
    """Write the phenotypes of a cohort."""
    people = cohort.people()
    columns = list(next(iter(people.values())))
    rows = [[person, *row.values()] for person, row in people.items()]
    write_tsv(folder / PEOPLE_FILE, [ID_COLUMN, *columns], rows)


def _write_truth(folder: Path, cohort: Cohort, inner: Float64, own: list[Float64]) -> None:
    canonicals = [canonical_of_gene(cohort, gene) for gene in range(len(own))]
    brain, turn, rhos = joint_canonical(cohort, canonicals)
    np.savez(
        folder / "truth.npz",
        brain=np.stack([inner @ each.brain for each in canonicals]),
        gene=np.stack(own),
        rhos=np.stack([each.rhos for each in canonicals]),
        joint_brain=inner @ brain,
        joint_gene=np.concatenate(own, axis=1) @ turn,
        joint_rhos=rhos,
    )


@dataclass(frozen=True)
class Truth:
    """Hold what is true of a built-in cohort.

    Args:
        rhos: True gene -> rho.
        ids: People in the order of the arrays.
        arrays: `brain` and `gene` (T, S, k), `rhos` (T, k), `joint_brain` and `joint_gene`
            (S, K), `joint_rhos` (K,); empty where the optimum is not known.
    """

    rhos: Mapping[str, float]
    ids: list[str]
    arrays: Mapping[str, Float64]

    def variates(self, people: list[str], gene: str | None) -> tuple[Float64, Float64, Float64]:
        """Return canonical variates u (n, K), v (n, K) and correlations (K,) of some people.

        Args:
            people: Their ids.
            gene: One gene; None for all genes at once. A null gene has K = 0.
        """
        place = {owner: i for i, owner in enumerate(self.ids)}
        rows = np.array([place[person] for person in people])
        if gene is None:
            names = ("joint_brain", "joint_gene")
            u, v = (self.arrays[name][rows] for name in names)
            return u, v, self.arrays["joint_rhos"]
        if gene not in self.rhos:
            empty = np.zeros((len(rows), 0))
            return empty, empty, np.zeros(0)
        at = list(self.rhos).index(gene)
        return (
            self.arrays["brain"][at][rows],
            self.arrays["gene"][at][rows],
            self.arrays["rhos"][at],
        )


def read_truth(folder: Path) -> Truth | None:
    """Return the truth of a built-in cohort's folder, None for any other folder."""
    path = folder / TRUTH
    if not path.is_file():
        return None
    from neurocli.core.data.npz import read_array

    about = read_json(path)
    names = ("brain", "gene", "rhos", "joint_brain", "joint_gene", "joint_rhos")
    arrays = {}
    if about["optimum_is_known"] and (folder / "truth.npz").is_file():
        arrays = {name: read_array(folder / "truth.npz", key=name) for name in names}
    return Truth(about["rhos"], about["ids"], arrays)


def built_in_cohort(spec: CohortSpec, listener: Listener = ignore) -> Path:
    """Return a folder with a built-in cohort, made when it is not in the cache yet.

    Args:
        spec: The cohort.
        listener: Told when it is made.

    Raises:
        NeuroError: The cache cannot be written.
    """
    text = json.dumps([_VERSION, asdict(spec)], sort_keys=True)
    target = cache_dir() / f"genes-cohort-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return made_once(
        target,
        lambda folder: write_cohort(folder, spec),
        what=f"the built-in cohort of {spec.n_people} people and {spec.n_genes} genes",
        listener=listener,
    )
