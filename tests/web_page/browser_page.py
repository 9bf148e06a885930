"""What a person does on the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from flyweight.core.detections import Detections

Page = Any
IDLE = "#main[aria-busy=false]"
# A file let go over the page, as the desktop does it.
DROP = """([content, name, type]) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, { type }));
  for (const kind of ["dragover", "drop"]) {
    const event = new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
    document.body.dispatchEvent(event);
  }
}"""
PASTE = """([content, name, type]) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, { type }));
  document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
}"""


def show(page: Page, path: Path) -> None:
    """Choose a file and wait for its boxes."""
    page.set_input_files("#file", path)
    page.wait_for_selector(f"canvas[aria-label='{path.name}']")
    page.wait_for_selector(IDLE)


def set_threshold(page: Page, score: float) -> None:
    """Move the slider there."""
    page.locator("#threshold").fill(str(round(100 * score)))


def saved(page: Page) -> tuple[dict[str, Any], Detections]:
    """What "Save boxes" writes, and its detections."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Save boxes").click()
    content: dict[str, Any] = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    found = content["detections"]
    return content, Detections(
        np.array([each["box_xyxy"] for each in found], np.float32).reshape(-1, 4),
        np.array([each["score"] for each in found], np.float32),
        np.array([each["class_id"] for each in found], np.int64),
    )


def listed(page: Page) -> list[str]:
    """Class and score of the rows of the list."""
    rows = page.locator("#found button").all()
    return [" ".join(row.locator(".class, .score").all_inner_texts()) for row in rows]
