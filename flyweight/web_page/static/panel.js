// What stands beside the picture: detections as text, classes, times.

import { classColour } from "./class_colour.js";

const byId = (id) => document.getElementById(id);
// How often a screen reader is told what the camera sees, milliseconds.
const PAUSE = 4000;

function element(name, className, text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

function swatch(label) {
  const made = element("span", "swatch");
  made.style.setProperty("--colour", classColour(label));
  return made;
}

/** "2 cats, 1 dog" without plurals: "2 × cat, 1 × dog". */
function inWords(detections) {
  const counts = new Map();
  for (const { name } of detections) counts.set(name, (counts.get(name) ?? 0) + 1);
  const parts = [...counts].sort((a, b) => b[1] - a[1]).map(([name, count]) => `${count} × ${name}`);
  return parts.join(", ");
}

/** The list of detections; `onPoint(detection or null)` as one is pointed at or focused. */
export function makeList({ onPoint }) {
  const list = byId("found"), summary = byId("summary");
  let shown = [];
  let pointed = null; // the row; it stays while its detection changes
  let spokenAt = -Infinity;

  function row(at) {
    const item = element("li");
    const button = element("button");
    button.type = "button";
    for (const part of ["swatch", "class", "score", "unseen"]) button.append(element("span", part));
    const point = (row) => {
      pointed = row;
      onPoint(shown[row] ?? null);
    };
    for (const kind of ["focus", "pointerenter", "click"]) {
      button.addEventListener(kind, () => point(at));
    }
    for (const kind of ["blur", "pointerleave"]) button.addEventListener(kind, () => point(null));
    item.append(button);
    return item;
  }

  return {
    /** Rows are used again, so that the focus stays where it is while the camera runs. */
    show(detections, { live }) {
      shown = detections;
      while (list.children.length > shown.length) list.lastChild.remove();
      while (list.children.length < shown.length) list.append(row(list.children.length));
      shown.forEach(({ name, label, score, box }, at) => {
        const [mark, title, number, where] = list.children[at].firstChild.children;
        mark.style.setProperty("--colour", classColour(label));
        title.textContent = name;
        number.textContent = score.toFixed(2);
        const [x1, y1, x2, y2] = box.map(Math.round);
        where.textContent = `from ${x1}, ${y1} to ${x2}, ${y2}`;
      });
      const text = shown.length ? inWords(shown) : "Nothing above the threshold.";
      // a camera would have a screen reader speak without an end: it is told now and then, below
      if (live) summary.removeAttribute("role");
      else summary.setAttribute("role", "status");
      if (summary.textContent !== text) summary.textContent = text;
      if (live && performance.now() - spokenAt > PAUSE) {
        byId("spoken").textContent = text;
        spokenAt = performance.now();
      }
    },
    /** For new detections: the row that is pointed at has another one. */
    pointAgain() {
      if (pointed !== null) onPoint(shown[pointed] ?? null);
    },
    say(text) {
      summary.textContent = text;
    },
    light(lit) {
      shown.forEach((each, at) => {
        list.children[at].firstChild.classList.toggle("lit", each === lit);
      });
    },
  };
}

/** Check boxes of the classes; `onChange()` as they change. */
export function makeClasses(names, { onChange }) {
  const list = byId("classes");
  const inputs = [], counts = [];
  list.replaceChildren(
    ...names.map((name, label) => {
      const item = element("li"), wrap = element("label"), input = element("input");
      input.type = "checkbox";
      input.checked = true;
      inputs.push(input);
      counts.push(element("span", "count"));
      wrap.append(input, swatch(label), element("span", "class", name), counts[label]);
      item.append(wrap);
      return item;
    }),
  );
  list.onchange = onChange;
  byId("classes-card").hidden = names.length < 2;
  return {
    has: (label) => inputs[label].checked,
    setAll(chosen) {
      for (const input of inputs) input.checked = chosen;
      onChange();
    },
    /** Of all above the threshold, whether their class is chosen or not. */
    count(detections) {
      const found = names.map(() => 0);
      for (const { label } of detections) found[label]++;
      counts.forEach((each, label) => { each.textContent = found[label] || ""; });
    },
  };
}

const inMilliseconds = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;

/** Milliseconds of each step; `rate` is of camera frames a second, null for a picture. */
export function showTimes(milliseconds, steps, { rate, note }) {
  byId("times-card").hidden = false;
  const total = Object.values(milliseconds).reduce((sum, each) => sum + each, 0);
  const perSecond = rate ? ` · ${rate.toFixed(rate < 10 ? 1 : 0)} a second` : "";
  byId("total").textContent = inMilliseconds(total) + perSecond;
  const rows = Object.entries(steps).map(([step, name]) => {
    const line = element("div");
    line.append(element("dt", "", name), element("dd", "", inMilliseconds(milliseconds[step])));
    return line;
  });
  byId("times").replaceChildren(...rows);
  const bars = byId("bar").children;
  Object.keys(steps).forEach((step, at) => bars[at].style.setProperty("--share", milliseconds[step]));
  for (let at = 0; at < bars.length; at++) bars[at].hidden = at >= rows.length;
  byId("engine-note").textContent = note;
}

/** How much of the model has come; `null` when nothing is loading. */
export function showProgress(progress) {
  const bar = byId("progress"), text = byId("progress-text");
  byId("loading").hidden = progress === null;
  if (progress === null) return;
  const { loaded, total } = progress;
  const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
  const whole = !total || loaded > total; // sent compressed, its length is not the file's
  if (whole) bar.removeAttribute("value");
  else Object.assign(bar, { max: total, value: loaded });
  const ended = total && loaded >= total;
  text.textContent = ended
    ? "Preparing…"
    : loaded ? `${megabytes(loaded)}${whole ? "" : ` of ${megabytes(total)}`} MB` : "Starting…";
}
