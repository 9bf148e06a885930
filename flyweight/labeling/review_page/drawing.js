// Boxes as SVG, in picture pixels; `unit` is a pixel of the screen in them.

const SVG = "http://www.w3.org/2000/svg";
const TAG = 12; // screen pixels, as the sizes below
const CORNER = 9;
const SMALL = 26; // a chosen box below this gets a ring

const measure = document.createElement("canvas").getContext("2d");
measure.font = `600 ${TAG}px system-ui, sans-serif`;

export function element(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return parent.appendChild(made);
}

export function rectangle([x1, y1, x2, y2], more, parent) {
  return element("rect", { x: x1, y: y1, width: x2 - x1, height: y2 - y1, ...more }, parent);
}

/** The lines of a box; `look` is {ignored, decided, selected, colour, id}. */
export function drawBox(corners, look, parent) {
  const names = ["ignored", "decided", "selected"].filter((name) => look[name]);
  const shown = { class: ["box", ...names].join(" "), "data-box": look.id };
  const group = element("g", shown, parent);
  rectangle(corners, { class: "casing" }, group);
  rectangle(corners, { class: "shape", stroke: look.colour }, group);
  return group;
}

/** Class and score above a box, or in it where the view ends at `top`. */
export function drawTag(corners, look, text, { unit, top }, parent) {
  const width = (measure.measureText(text).width + 8) * unit;
  // in a crowd only the tags that have room; the list beside the picture has them all
  if (!look.selected && width > 1.1 * (corners[2] - corners[0])) return;
  const height = (TAG + 4) * unit;
  const y = corners[1] - height >= top ? corners[1] - height : corners[1];
  const tag = element("g", { class: "tag" }, parent);
  const ground = { x: corners[0], y, width, height, rx: 2 * unit, fill: look.colour };
  element("rect", { ...ground, opacity: look.decided ? 0.75 : 0.95 }, tag);
  const baseline = { x: corners[0] + 4 * unit, y: y + TAG * unit, "font-size": TAG * unit };
  element("text", baseline, tag).textContent = text;
}

/** What the mouse takes hold of; and a ring around a box that would not be seen. */
export function drawHandles([x1, y1, x2, y2], unit, parent) {
  if (Math.max(x2 - x1, y2 - y1) < SMALL * unit) {
    const centre = { cx: (x1 + x2) / 2, cy: (y1 + y2) / 2 };
    element("circle", { ...centre, r: SMALL * unit, class: "ring" }, parent);
  }
  const lines = {
    n: [x1, y1, x2, y1], s: [x1, y2, x2, y2], w: [x1, y1, x1, y2], e: [x2, y1, x2, y2],
  };
  for (const [side, [a, b, c, d]] of Object.entries(lines)) {
    const ends = { x1: a, y1: b, x2: c, y2: d };
    element("line", { ...ends, class: `edge ${side}`, "data-side": side }, parent);
  }
  const half = (CORNER / 2) * unit;
  const corners = { nw: [x1, y1], ne: [x2, y1], sw: [x1, y2], se: [x2, y2] };
  for (const [side, [x, y]] of Object.entries(corners)) {
    const square = [x - half, y - half, x + half, y + half];
    rectangle(square, { class: `corner ${side}`, "data-side": side }, parent);
  }
}
