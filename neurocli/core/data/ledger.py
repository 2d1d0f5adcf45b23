"""Keep the books of one preparation: which items are fresh, what was done, what to tell.

The manifest gains a line the moment an item is in place, and is rewritten, sorted, at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurocli.core.data import output
from neurocli.core.data.items import Found, Item, OutputSpec, PrepareResult
from neurocli.core.data.manifest import Manifest
from neurocli.core.data.workers import Outcome, Task, failed_record, reason_text
from neurocli.core.errors import NeuroError
from neurocli.core.events import ItemDone, Listener, Note, WorkFinished, WorkStarted

_FIRST_FAILURES = 3
_NAMED = 3


def is_finished(out: Path, record: Mapping[str, Any] | None) -> bool:
    """Tell whether an item is done by its record and its files are in place."""
    return record is not None and record["status"] == "done" and output.has_files(out, record)


class Ledger:
    """Take the outcomes of one preparation.

    Args:
        found: What the finder found.
        out: The output folder; the caller holds its lock.
        spec: What the folder is.
        options: Under which options.
        listener: Told the progress.
    """

    def __init__(
        self,
        found: Found,
        out: Path,
        spec: OutputSpec,
        options: Mapping[str, Any],
        listener: Listener,
    ) -> None:
        self.found = found
        self.out = out
        self.spec = spec
        self.options = options
        self.listener = listener
        self.manifest = Manifest(out / output.MANIFEST_FILE)
        self.known: dict[str, dict[str, Any]] = {}
        self.states: Counter[str] = Counter()
        self.failures: list[tuple[str, str]] = []
        self.remarks: dict[str, list[str]] = {}

    def open(self, *, force: bool) -> None:
        """Read what is there and put failed inputs into the manifest."""
        self.known = self.manifest.records()
        for problem in self.manifest.problems:
            self.listener(Note(problem, "warning"))
        if force:
            for record in self.known.values():
                output.retire(self.out, record)
            self.manifest.rewrite({})
            self.known = {}
        self._describe(None)
        total = len(self.found.items) + len(self.found.failures)
        self.listener(WorkStarted(f"{self.spec.kind} {self.spec.dataset}", total, "items"))
        for name, reason in self.found.failures:
            self.take(Outcome(failed_record(Item(name, name, ()), reason, 0.0)))

    def _describe(self, records: Sequence[Mapping[str, Any]] | None) -> None:
        output.write_dataset(
            self.out,
            self.spec,
            self.options,
            built_in_data=self.found.built_in_data,
            records=records,
        )

    def tasks(self, process: str) -> list[Task]:
        """Return one task per item, knowing which outputs are in place."""
        tasks = []
        for item in self.found.items:
            record = self.known.get(item.subject)
            known = str(record["fingerprint"]) if record and is_finished(self.out, record) else None
            tasks.append(Task(item, process, self.out, self.options, self.spec.version, known))
        return tasks

    def take(self, outcome: Outcome) -> None:
        """Publish a finished item and write its line, or write why it failed."""
        record = outcome.record
        subject = str(record["subject"])
        if outcome.part is not None:
            try:
                output.publish(outcome.part, self.out, subject, is_flat=self.spec.is_flat)
            except OSError as error:
                item = Item(subject, str(record["participant"]), ())
                record = failed_record(item, reason_text(error), record["seconds"])
            else:
                record["files"] = self._placed(subject, record["files"])
        status = str(record["status"])
        if status == "failed" and subject in self.known:
            output.retire(self.out, self.known[subject])
        if status != "skipped":
            self.manifest.append(record)
        self._tell(subject, status, record)

    def _placed(self, subject: str, names: Sequence[str]) -> list[str]:
        folder = "" if self.spec.is_flat else f"{output.item_folder(subject)}/"
        return [f"{folder}{name}" for name in names]

    def _tell(self, subject: str, status: str, record: Mapping[str, Any]) -> None:
        self.states[status] += 1
        for note in record.get("notes") or ():
            self.remarks.setdefault(note, []).append(subject)
        if status == "failed":
            self.failures.append((subject, str(record["error"])))
            self.listener(ItemDone(subject, "failed", str(record["error"])))
        else:
            self.listener(ItemDone(subject, "done" if status == "done" else "skipped"))

    def close(self) -> None:
        """Sort the manifest and describe the folder."""
        self.manifest.rewrite()
        output.write_people(self.out, self.found)
        self._describe(list(self.manifest.records().values()))
        self.listener(WorkFinished(f"{self.spec.kind} {self.spec.dataset}"))

    def notes(self) -> list[str]:
        """Return the finder's notes and, once each, what was noted about items."""
        found = list(self.found.notes)
        for note, subjects in sorted(self.remarks.items()):
            named = ", ".join(sorted(subjects)[:_NAMED])
            more = f" and {len(subjects) - _NAMED} more" if len(subjects) > _NAMED else ""
            found.append(f"{note} ({named}{more})")
        return found

    def result(self, seconds: float) -> PrepareResult:
        """Return the counts.

        Raises:
            NeuroError: Nothing is there that could be used.
        """
        self.failures.sort()
        if self.failures and not (self.states["done"] or self.states["skipped"]):
            first = " | ".join(
                f"{name}: {reason}" if name not in reason else reason
                for name, reason in self.failures[:_FIRST_FAILURES]
            )
            count = len(self.failures)
            what = "the only input" if count == 1 else f"all {count} inputs"
            raise NeuroError(
                f"{what} failed: {first}",
                where=str(self.out),
                hint=f"{output.MANIFEST_FILE} there has the reason of each",
            )
        return PrepareResult(
            out=self.out,
            done=self.states["done"],
            failed=self.states["failed"],
            skipped=self.states["skipped"],
            seconds=round(seconds, 3),
            failures=self.failures,
            notes=self.notes(),
        )
