// Boxes and their labels on a canvas.

import { classColour, inkOn } from "./class_colour.js";

const TEXT = 12.5; // these in units of `unit`
const PLATE = 20;
const PAD = 6;

/**
 * Draw detections, best on top; labels where they cover no other.
 *
 * detections: [{box, score, label, name}], best first, boxes in picture pixels.
 * scale: canvas pixels of a picture pixel; unit: canvas pixels of a pixel of the screen.
 * lit: the detection that is pointed at, or null.
 */
export function drawDetections(context, detections, { scale, unit, lit = null }) {
  const { canvas } = context;
  const placed = detections.map((each) => ({
    ...each,
    corners: each.box.map((value, at) => clamp(value * scale, at % 2 ? canvas.height : canvas.width)),
    dim: lit !== null && each !== lit,
    lit: each === lit,
  }));
  const order = placed.filter((each) => !each.lit).reverse();
  const last = placed.filter((each) => each.lit);
  for (const each of [...order, ...last]) drawBox(context, each, unit);
  context.font = `600 ${TEXT * unit}px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif`;
  context.textBaseline = "middle";
  const plates = [];
  for (const each of [...last, ...placed.filter((other) => !other.lit)]) {
    const free = placesOf(context, each, unit).find((place) => !plates.some((other) => meet(place, other)));
    if (free === undefined) continue;
    plates.push(free);
    drawPlate(context, each, free, unit);
  }
}

const clamp = (value, most) => Math.min(Math.max(value, 0), most);

function drawBox(context, { corners: [x1, y1, x2, y2], label, dim, lit }, unit) {
  const line = (lit ? 3 : 2) * unit, inset = line / 2;
  const trace = () => {
    context.beginPath();
    const width = Math.max(x2 - x1 - line, 1), height = Math.max(y2 - y1 - line, 1);
    context.roundRect(x1 + inset, y1 + inset, width, height, Math.min(3 * unit, width / 2, height / 2));
  };
  context.globalAlpha = dim ? 0.35 : 1;
  trace();
  context.lineWidth = line + 2 * unit;
  context.strokeStyle = "rgb(0 0 0 / 0.35)"; // so that a box is seen on its own colour
  context.stroke();
  context.lineWidth = line;
  context.strokeStyle = classColour(label);
  context.stroke();
  if (lit) {
    context.globalAlpha = 0.16;
    context.fillStyle = classColour(label);
    context.fill();
  }
  context.globalAlpha = 1;
}

/** Where a label may be: above its box, in it, below it; all within the canvas. */
function placesOf(context, { corners: [x1, y1, x2, y2], name, score }, unit) {
  const { width: most, height: lowest } = context.canvas;
  const height = PLATE * unit;
  const wide = (words) => context.measureText(words).width + 2 * PAD * unit;
  // a narrow box is told by its class alone: the list has the scores
  const whole = `${name} ${score.toFixed(2)}`;
  const text = wide(whole) > 1.2 * (x2 - x1) ? name : whole;
  const width = wide(text), margin = 3 * unit;
  const at = (left, y) => ({ x: Math.max(0, Math.min(left, most - width)), y, width, height, text });
  const places = [at(x1, y1 - height - unit), at(x1 + margin, y1 + margin), at(x1, y2 + unit)];
  return places.filter(({ y }) => y >= 0 && y + height <= lowest);
}

const meet = (a, b) =>
  a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;

function drawPlate(context, { label, dim }, { x, y, width, height, text }, unit) {
  context.globalAlpha = dim ? 0.35 : 1;
  context.fillStyle = classColour(label);
  context.beginPath();
  context.roundRect(x, y, width, height, 5 * unit);
  context.fill();
  context.fillStyle = inkOn(label);
  context.fillText(text, x + PAD * unit, y + height / 2 + 0.5 * unit);
  context.globalAlpha = 1;
}
