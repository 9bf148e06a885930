// The picture with its boxes, and what the mouse does there.

import { drawBox, drawHandles, drawTag, element, rectangle } from "./drawing.js";
import { EDGES, area, changed, tidy } from "./geometry.js";
import { makeView } from "./view.js";

const DRAG_STARTS = 3; // screen pixels: less is a click
const PIXELATED = 4; // from this scale on the file's own pixels are of interest

/**
 * @param shell {svg, stage, colour(category), text(box)}
 * @param told {select(id), change(id, box_xyxy), draw(box_xyxy)}: what the mouse did
 */
export function makeStage({ svg, stage, colour, text }, told) {
  const view = makeView(svg);
  const layers = {};
  for (const name of ["picture", "boxes", "handles"]) layers[name] = element("g", {}, svg);
  let picture = null;
  let selected = null;
  let draft = null; // {id, box}: a box that is being changed, not yet sent
  let gesture = null; // {kind, from, last, moved, ...}: from the button's press to its release
  let drawing = false;
  let hidden = false;

  const chosen = () => picture.boxes.find((box) => box.id === selected);
  const cornersOf = (box) => (draft?.id === box.id ? draft.box : box.box_xyxy);

  /** Show a picture; gives whether its file is loaded now: `loaded` is told if it can be drawn. */
  function open(shown, loaded) {
    const other = picture?.row !== shown.row;
    picture = shown;
    draft = null;
    if (!other) return false;
    const [height, width] = shown.size_hw;
    layers.picture.replaceChildren();
    rectangle([0, 0, width, height], { class: "frame" }, layers.picture);
    if (!shown.missing) {
      const href = `pictures/${shown.row}/file`;
      const whole = { href, width, height, preserveAspectRatio: "none" };
      const image = element("image", whole, layers.picture);
      for (const name of ["load", "error"]) {
        image.addEventListener(name, () => loaded(name === "load"));
      }
    }
    view.fit(shown.size_hw);
    return !shown.missing;
  }

  function render(id = selected) {
    selected = id;
    if (!picture) return;
    svg.style.imageRendering = view.scale >= PIXELATED ? "pixelated" : "auto";
    layers.boxes.replaceChildren();
    layers.handles.replaceChildren();
    const place = { unit: 1 / view.scale, top: view.y };
    // the smaller above the larger, so that it can be clicked
    const drawn = [...picture.boxes].sort((a, b) => area(b.box_xyxy) - area(a.box_xyxy));
    for (const box of drawn) {
      const look = {
        id: box.id,
        colour: colour(box.category),
        ignored: box.ignored,
        decided: Boolean(box.reviewed),
        selected: box.id === selected,
      };
      if (hidden && !look.selected) continue;
      const group = drawBox(cornersOf(box), look, layers.boxes);
      drawTag(cornersOf(box), look, text(box), place, look.selected ? layers.handles : group);
    }
    if (chosen() && !hidden) drawHandles(cornersOf(chosen()), place.unit, layers.handles);
    if (gesture?.rubber) rectangle(gesture.rubber, { class: "rubber" }, layers.handles);
  }

  /** Change the selected box by picture pixels, to be sent later; gives {id, box}. */
  function nudge(edges, dx, dy) {
    const box = chosen();
    if (!box) return null;
    draft = { id: box.id, box: changed(cornersOf(box), edges, dx, dy, picture.size_hw) };
    render();
    return draft;
  }

  /** What a press of this mouse button at this place begins. */
  function begun({ button, target, clientX, clientY }) {
    const from = [clientX, clientY];
    const common = { from, last: from, moved: false };
    const side = target.dataset?.side;
    const id = Number(target.closest("[data-box]")?.dataset.box ?? NaN);
    if (button === 0 && drawing) return { ...common, kind: "draw" };
    if (button === 0 && (side || id === selected)) {
      const start = cornersOf(chosen());
      return { ...common, kind: "change", id: selected, start, edges: EDGES[side] };
    }
    return button === 0 && id ? { ...common, kind: "select", id } : { ...common, kind: "pan" };
  }

  function drag(x, y) {
    const [dx, dy] = [x - gesture.from[0], y - gesture.from[1]];
    gesture.moved ||= Math.hypot(dx, dy) > DRAG_STARTS;
    if (!gesture.moved) return;
    if (gesture.kind === "select") gesture.kind = "pan";
    if (gesture.kind === "pan") {
      view.pan(x - gesture.last[0], y - gesture.last[1]);
    } else if (gesture.kind === "change") {
      const { id, start, edges } = gesture;
      const box = changed(start, edges, dx / view.scale, dy / view.scale, picture.size_hw);
      draft = { id, box };
    } else {
      const ends = [...view.toPicture(...gesture.from), ...view.toPicture(x, y)];
      gesture.rubber = tidy(ends, picture.size_hw);
    }
    gesture.last = [x, y];
    render();
  }

  function release() {
    const { kind, moved, id, rubber } = gesture ?? {};
    gesture = null;
    if (kind === "select") told.select(id);
    else if (kind === "change" && moved && draft) told.change(draft.id, draft.box);
    else if (kind === "draw" && moved) told.draw(rubber);
    render();
  }

  function cancel() {
    gesture = null;
    draft = null;
    render();
  }

  svg.addEventListener("pointerdown", (event) => {
    if (event.button > 1 || !picture) return;
    event.preventDefault();
    stage.focus({ preventScroll: true });
    svg.setPointerCapture(event.pointerId);
    gesture = begun(event);
  });
  svg.addEventListener("pointermove", (event) => {
    if (gesture) drag(event.clientX, event.clientY);
  });
  svg.addEventListener("pointerup", release);
  svg.addEventListener("pointercancel", cancel);
  const turn = (event) => {
    event.preventDefault();
    view.zoomAt(event.clientX, event.clientY, Math.exp(-event.deltaY * 0.0015));
    render();
  };
  svg.addEventListener("wheel", turn, { passive: false });
  new ResizeObserver(() => {
    if (!picture) return;
    if (view.whole) view.fit();
    else view.pan(0, 0);
    render();
  }).observe(svg);

  return {
    view,
    open,
    render,
    nudge,
    cancel,
    setDrawing(on) {
      drawing = on;
      stage.classList.toggle("drawing", on);
    },
    setHidden(on) {
      hidden = on;
      render();
    },
  };
}
