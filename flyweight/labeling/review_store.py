"""A labelled data set while a person goes through it: its COCO file and what was decided since."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flyweight.core.errors import InputError
from flyweight.data.image_files import is_inside
from flyweight.labeling.coco_lines import write_coco_lines
from flyweight.labeling.review_decision import Decision, carry_out
from flyweight.labeling.review_doubt import (
    CERTAIN,
    Annotation,
    by_doubt,
    margin,
    thresholds_by_category,
)
from flyweight.labeling.review_file import FolderOfLabels, read_coco
from flyweight.labeling.review_journal import Journal, sync_folder
from flyweight.labeling.review_lock import lock_labels

# How often decisions are folded into the COCO file, and that writing it may take one part in so
# many of the time: a large file is written seldom.
FOLD_EVERY_S = 1.0
FOLD_SHARE = 20


@dataclass(frozen=True)
class PictureState:
    """A picture as it is after so many decisions.

    Attributes:
        annotations: of the picture, as in the COCO file.
        reviewed: None, `begun` (something was decided) or `done`.
        revision: counts the decisions on it, from the start of this session.
    """

    annotations: tuple[Annotation, ...]
    reviewed: str | None
    revision: int = 0


class ReviewStore:
    """What the page shows and changes. Pictures go by their row in the COCO file, from 0.

    A decision is in the journal, on the disk, before it is answered. Folding writes all of them
    into the COCO file, which is replaced as a whole, and empties the journal. Safe from several
    threads. Made by `open_store`.

    Attributes:
        queue: rows of all pictures, in the order of this session.
        done: how many pictures are done.
        fold_s: how long the last folding took.
    """

    def __init__(self, folder: FolderOfLabels, content: dict[str, Any], journal: Journal) -> None:
        self.folder = folder
        self.categories: list[dict[str, Any]] = content["categories"]
        self.threshold_of = thresholds_by_category(content.get("info"), self.categories)
        self._content = content
        self._journal = journal
        self._lock = threading.Lock()
        self._folding = threading.Lock()
        self._closed = False
        self._row_of = {image["id"]: row for row, image in enumerate(content["images"])}
        self._pictures, self._loose = _by_picture(content, self._row_of)
        self._margins: dict[int, dict[int, float]] = {}
        self._before: dict[int, list[PictureState]] = {}
        self._next_id = 1 + max((each["id"] for each in content["annotations"]), default=0)
        self._decisions = int(_review_info(content).get("decisions", 0))
        self._folded, self.fold_s = self._decisions, 0.0
        for line in journal.lines:
            self._replay(line)
        self.queue = self._order()
        self.done = sum(picture.reviewed == "done" for picture in self._pictures)

    def __len__(self) -> int:
        return len(self._pictures)

    @property
    def images(self) -> list[dict[str, Any]]:
        """The file's image entries, in rows."""
        images: list[dict[str, Any]] = self._content["images"]
        return images

    def state(self, row: int) -> PictureState:
        """The picture as it is now. Raises IndexError where there is no such row."""
        if row < 0:
            raise IndexError(row)
        return self._pictures[row]

    def undoable(self, row: int) -> int:
        """How many decisions of this session on the picture can be taken back."""
        return len(self._before.get(row, ()))

    def marks(self) -> dict[str, int]:
        """How many annotations were accepted, fixed and added, in all sessions."""
        counts = {"accepted": 0, "fixed": 0, "added": 0}
        for picture in self._pictures:
            for annotation in picture.annotations:
                if annotation.get("reviewed") in counts:
                    counts[annotation["reviewed"]] += 1
        return counts

    def least_certain_first(self, row: int, state: PictureState) -> list[Annotation]:
        """The picture's annotations as they lay when it was first asked for in this session: a box
        keeps its place when it gets another class; boxes that were added come last."""
        margins = self._margins.get(row)
        if margins is None:
            undecided = [
                {name: value for name, value in each.items() if name != "reviewed"}
                for each in state.annotations
            ]
            margins = {each["id"]: margin(each, self.threshold_of) for each in undecided}
            self._margins[row] = margins
        return sorted(state.annotations, key=lambda each: margins.get(each["id"], CERTAIN))

    def picture_file(self, row: int) -> Path | None:
        """The file of a picture; None where it has vanished, or lies outside the data set."""
        path = self.folder.images / self.images[row]["file_name"]
        return path if is_inside(path, self.folder.images) and path.is_file() else None

    def decide(self, row: int, revision: int, decision: Decision) -> PictureState | None:
        """Carry out a decision that was taken on this revision of a picture.

        Returns:
            The picture after it; None, and nothing is changed, where somebody else has decided
            something on the picture since.

        Raises:
            InputError: the decision does not fit the picture, or the review was ended.
            OSError: it cannot be kept on the disk: nothing is changed.
        """
        with self._lock:
            if self._closed:
                raise InputError("the review was ended", fix="start it again and open its page")
            now = self.state(row)
            if now.revision != revision:
                return None
            after = self._after(row, now, decision)
            if after == now:
                return now
            image_id = self.images[row]["id"]
            self._journal.append(
                {
                    "decision": self._decisions + 1,
                    "image_id": image_id,
                    "action": decision.action,
                    "reviewed": after.reviewed,
                    "annotations": after.annotations,
                }
            )
            self._decisions += 1
            self._pictures[row] = after
            self.done += (after.reviewed == "done") - (now.reviewed == "done")
            if decision.action == "undo":
                self._before[row].pop()
            else:
                self._before.setdefault(row, []).append(now)
            self._next_id += decision.action == "add"
            return after

    def _after(self, row: int, now: PictureState, decision: Decision) -> PictureState:
        if decision.action == "undo":
            if not self.undoable(row):
                raise InputError("nothing of this session to take back on this picture")
            before = self._before[row][-1]
            return PictureState(before.annotations, before.reviewed, now.revision + 1)
        image = self.images[row]
        annotations = carry_out(
            decision,
            now.annotations,
            size_hw=(image["height"], image["width"]),
            image_id=image["id"],
            category_ids=[each["id"] for each in self.categories],
            new_id=self._next_id,
        )
        reviewed = "done" if decision.action == "done" else now.reviewed or "begun"
        if reviewed == now.reviewed and tuple(annotations) == now.annotations:
            return now  # accepted once more
        return PictureState(tuple(annotations), reviewed, now.revision + 1)

    def _replay(self, line: dict[str, Any]) -> None:
        """Take up a decision of a session that did not end well."""
        if line["decision"] <= self._folded:
            return  # killed between the two halves of folding
        row = self._row_of.get(line["image_id"])
        if row is None:
            raise InputError(
                f"decisions on a picture {line['image_id']!r} that the COCO file does not list",
                where=self._journal.path,
                fix="bring back the COCO file that they were made on, or remove them",
            )
        self._pictures[row] = PictureState(tuple(line["annotations"]), line["reviewed"])
        ids = [each["id"] for each in line["annotations"]]
        self._next_id = max([self._next_id, *(number + 1 for number in ids)])
        self._decisions = line["decision"]

    def _order(self) -> list[int]:
        """Rows of all pictures: those not done with the least certain first, then the others."""
        rows = by_doubt([picture.annotations for picture in self._pictures], self.threshold_of)
        return sorted(rows, key=lambda row: self._pictures[row].reviewed == "done")

    def fold(self) -> None:
        """Write everything decided into the COCO file; decisions go on meanwhile.

        Raises:
            InputError: the disk is full; the decisions stay in the journal.
        """
        with self._folding:
            with self._lock:
                pictures, decisions = list(self._pictures), self._decisions
            if decisions == self._folded:
                return
            start = time.monotonic()
            self._write(pictures, decisions)
            with self._lock:
                self._folded = decisions
                if decisions == self._decisions:
                    # lines that stay are known by their numbers to be folded already
                    with contextlib.suppress(OSError):
                        self._journal.clear()
            self.fold_s = time.monotonic() - start

    def _write(self, pictures: list[PictureState], decisions: int) -> None:
        head = {
            name: value
            for name, value in self._content.items()
            if name not in ("images", "annotations")
        }
        review = _review_info(self._content) | {"decisions": decisions}
        head["info"] = (head.get("info") or {}) | {"review": review}
        annotations = (each for picture in pictures for each in picture.annotations)
        write_coco_lines(
            self.folder.annotations,
            head,
            images=map(_marked, self.images, pictures),
            annotations=itertools.chain(annotations, self._loose),
        )
        with contextlib.suppress(OSError):
            sync_folder(self.folder.annotations.parent)

    def close(self) -> None:
        """Take no more decisions: of a page that is still open and has not noticed the end."""
        with self._lock:
            self._closed = True
            self._journal.close()


@contextmanager
def open_store(root: Path) -> Iterator[ReviewStore]:
    """The labels in the folder `root`, for this process alone; decisions are folded into the COCO
    file about every second, and at the end.

    Raises:
        InputError: no labelled data set is there, another process is at work on it, or the disk is
            full: what was decided then stays in the journal.
    """
    folder = FolderOfLabels(root)
    folder.check()
    with lock_labels(folder.annotations):
        content = read_coco(folder.annotations)
        store = ReviewStore(folder, content, Journal(folder.journal))
        ended = threading.Event()
        folding = threading.Thread(target=_fold_now_and_then, args=(store, ended), daemon=True)
        try:
            store.fold()
            folding.start()
            yield store
            store.fold()
        finally:
            ended.set()
            if folding.is_alive():
                folding.join()
            store.close()


def _fold_now_and_then(store: ReviewStore, ended: threading.Event) -> None:
    while not ended.wait(max(FOLD_EVERY_S, FOLD_SHARE * store.fold_s)):
        with contextlib.suppress(InputError):  # decisions are safe in the journal
            store.fold()


def _by_picture(
    content: dict[str, Any], row_of: dict[Any, int]
) -> tuple[list[PictureState], list[Annotation]]:
    """The pictures in rows, and annotations of pictures that the file does not list."""
    annotations: list[list[Annotation]] = [[] for _ in content["images"]]
    loose: list[Annotation] = []
    for annotation in content["annotations"]:
        row = row_of.get(annotation["image_id"])
        (loose if row is None else annotations[row]).append(annotation)
    pictures = [
        PictureState(tuple(of_image), image.get("reviewed"))
        for of_image, image in zip(annotations, content["images"], strict=True)
    ]
    return pictures, loose


def _review_info(content: dict[str, Any]) -> dict[str, Any]:
    info = content.get("info")
    review = info.get("review") if isinstance(info, dict) else None
    return review if isinstance(review, dict) else {}


def _marked(image: dict[str, Any], picture: PictureState) -> dict[str, Any]:
    entry = {name: value for name, value in image.items() if name != "reviewed"}
    return entry if picture.reviewed is None else entry | {"reviewed": picture.reviewed}
