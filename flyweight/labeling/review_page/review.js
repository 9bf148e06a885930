// The review: which picture and box is shown, and what every key does to it.
//
// Commands run one after the other, so that keys typed faster than the disk writes meet the box
// they were meant for. What is shown is what the server has answered: a decision that could not be
// saved is not seen as one, and the keys typed after it are dropped.

import { at, chooseClass, makePanel } from "./panel.js";
import { getPicture, getSession, sendDecision } from "./server.js";
import { makeStage } from "./stage.js";

const NUDGE_MS = 350; // keys that move a box are sent together

const session = await getSession().catch((error) => {
  at("message").hidden = false;
  at("message").textContent = error.message;
  throw error;
});
const panel = makePanel(session.classes, {
  select: (id) => run(() => select(id)),
  choose: (category) => run(() => setClass(category)),
});
const stage = makeStage(
  { svg: at("drawing"), stage: at("stage"), colour: panel.colour, text: panel.text },
  {
    select: (id) => run(() => select(id)),
    change: (id, box_xyxy) => run(() => decide({ action: "fix", box: id, box_xyxy })),
    draw: (box_xyxy) => run(() => add(box_xyxy)),
  },
);
const done = new Set(session.done);
const broken = new Set(); // rows of pictures that the browser cannot draw
let loading = null; // row of the picture that is not drawn yet
const decided = []; // rows of the pictures of this page's decisions, the last one last
let picture = null;
let selected = null;
let lastClass = session.classes[0]?.id;
let mode = ""; // "edit" or "draw"
let hidden = false;
let zoomed = false;
let pending = null; // {id, box}: moved by keys, to be sent
let pendingTimer = 0;

let queue = Promise.resolve();
let generation = 0;
let waiting = 0;

/** Run a command after those before it, unless one of them fails. */
function run(command, { flushing = true } = {}) {
  const mine = generation;
  document.body.setAttribute("aria-busy", String(++waiting > 0));
  queue = queue
    .then(async () => {
      if (mine !== generation) return;
      if (flushing && !(await flush())) return;
      await command();
    })
    .catch((error) => {
      generation += 1;
      panel.say(error.message, { bad: true });
    })
    .finally(() => document.body.setAttribute("aria-busy", String(--waiting > 0)));
  return queue;
}

function failed(reason) {
  generation += 1;
  pending = null;
  stage.cancel();
  panel.saved("failed");
  panel.say(`Not saved: ${reason}`, { bad: true });
}

const current = () => picture.boxes.find((box) => box.id === selected);
const position = () => session.queue.indexOf(picture.row);

function render() {
  const box = current();
  stage.render(selected);
  panel.renderBoxes(picture, selected);
  panel.renderClasses(box?.category ?? lastClass);
  panel.renderProgress(picture, position(), session.queue.length);
  panel.missing(lost());
  const pressed = { edit: mode === "edit", draw: mode === "draw", zoom: zoomed };
  for (const [command, on] of Object.entries(pressed)) {
    document.querySelector(`[data-command=${command}]`).setAttribute("aria-pressed", String(on));
  }
}

/** Why there is no picture behind the boxes; empty where there is one. */
function lost() {
  if (picture.missing) return `${picture.name} is missing. Its boxes can still be dropped.`;
  if (loading === picture.row) return "Loading …";
  return broken.has(picture.row) ? `${picture.name} cannot be shown.` : "";
}

function take(shown) {
  picture = shown;
  if (shown.reviewed === "done") done.add(shown.row);
  else done.delete(shown.row);
  const begun = stage.open(shown, (drawn) => {
    if (loading === shown.row) loading = null;
    if (drawn) broken.delete(shown.row);
    else broken.add(shown.row);
    panel.missing(lost());
  });
  if (begun) loading = shown.row;
  if (!current()) selected = null;
}

async function show(row) {
  const shown = await getPicture(row);
  setMode("");
  zoomed = false;
  stage.view.whole = true;
  take(shown);
  stage.view.fit();
  history.replaceState(null, "", `#${row}`);
  select((shown.boxes.find((box) => !box.reviewed) ?? shown.boxes[0])?.id ?? null);
}

function select(id) {
  selected = id;
  const box = current();
  if (box && zoomed) stage.view.zoomTo(box.box_xyxy);
  render();
  if (box) {
    panel.speak(panel.words(box, picture.boxes.indexOf(box) + 1, picture.boxes.length));
  }
}

function step(by) {
  const count = picture.boxes.length;
  if (!count) return;
  const place = picture.boxes.findIndex((box) => box.id === selected);
  select(picture.boxes[place < 0 ? 0 : (place + by + count) % count].id);
}

/** The next box that nobody has decided on, after the place where one was. */
function selectUndecided(place) {
  const boxes = [...picture.boxes.slice(place), ...picture.boxes.slice(0, place)];
  const next = boxes.find((box) => !box.reviewed);
  if (next) return select(next.id);
  select(picture.boxes[Math.min(place, picture.boxes.length - 1)]?.id ?? null);
  panel.say("Every box is decided. Space: the picture is done.");
}

/** Send a decision; gives whether it is saved. */
async function decide(decision) {
  panel.saved("busy");
  const answer = await sendDecision(picture, decision);
  if (answer.outcome === "failed") {
    failed(answer.reason);
    return false;
  }
  if (answer.outcome === "stale") {
    generation += 1;
    pending = null;
    take(answer.picture);
    select(current()?.id ?? picture.boxes[0]?.id ?? null);
    panel.saved("");
    panel.say(
      "This picture was changed in another tab or window. It is shown as it is now; your last " +
        "key was not carried out.",
      { bad: true },
    );
    return false;
  }
  const changed = answer.picture.revision !== picture.revision;
  if (changed && decision.action !== "undo") decided.push(picture.row);
  take(answer.picture);
  panel.saved("saved");
  panel.say("");
  render();
  return true;
}

async function ofTheBox(action) {
  const box = current();
  if (!box) return;
  const place = picture.boxes.indexOf(box);
  if (await decide({ action, box: box.id })) selectUndecided(action === "drop" ? place : place + 1);
}

async function setClass(category) {
  const box = current();
  lastClass = category;
  if (!box || box.category === category) return render();
  await decide({ action: "fix", box: box.id, category });
}

async function add(box_xyxy) {
  setMode("");
  const before = new Set(picture.boxes.map((box) => box.id));
  const category = current()?.category ?? lastClass;
  if (!(await decide({ action: "add", box_xyxy, category }))) return;
  select(picture.boxes.find((box) => !before.has(box.id))?.id ?? null);
}

async function undo() {
  const row = decided.at(-1) ?? (picture.undoable ? picture.row : null);
  if (row === null) return panel.say("There is nothing to take back.");
  if (row !== picture.row) await show(row);
  const before = new Map(picture.boxes.map((box) => [box.id, JSON.stringify(box)]));
  if (!(await decide({ action: "undo" }))) return;
  decided.pop();
  const back = picture.boxes.find((box) => before.get(box.id) !== JSON.stringify(box));
  select((back ?? current() ?? picture.boxes[0])?.id ?? null);
}

async function finish() {
  if (picture.reviewed !== "done" && !(await decide({ action: "done" }))) return;
  const rows = session.queue;
  const order = [...rows.slice(position() + 1), ...rows.slice(0, position())];
  const next = order.find((row) => !done.has(row));
  if (next !== undefined) await show(next);
  else panel.say("Every picture is done. Ctrl-C in the terminal ends the review.");
}

async function turn(by) {
  const count = session.queue.length;
  await show(session.queue[(position() + by + count) % count]);
}

function setMode(next) {
  mode = next;
  stage.setDrawing(mode === "draw");
  const edit = "arrows move, Shift+arrows resize, Enter or Esc ends";
  panel.hint({ edit, draw: "drag from corner to corner, Esc ends" }[mode] ?? "");
}

function toggle(wanted) {
  setMode(mode === wanted || (wanted === "edit" && !current()) ? "" : wanted);
  render();
}

function zoom() {
  const box = current();
  zoomed = stage.view.whole && Boolean(box);
  if (zoomed) stage.view.zoomTo(box.box_xyxy);
  else stage.view.fit();
  render();
}

/** Move or resize the selected box with keys; sent when they rest. */
function nudge(key, resize) {
  const pixels = Math.max(1, Math.round(1 / stage.view.scale));
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  pending = stage.nudge(resize ? [2, 3] : null, dx * pixels, dy * pixels) ?? pending;
  clearTimeout(pendingTimer);
  pendingTimer = setTimeout(() => run(() => {}), NUDGE_MS);
}

/** Send what keys have moved; gives whether nothing is left unsaved. */
async function flush() {
  if (!pending) return true;
  const { id, box } = pending;
  pending = null;
  clearTimeout(pendingTimer);
  return decide({ action: "fix", box: id, box_xyxy: box });
}

async function classes() {
  if (!current()) return;
  const chosen = await chooseClass(session.classes, panel.colour);
  at("stage").focus({ preventScroll: true });
  if (chosen !== null) await setClass(chosen);
}

function hide() {
  hidden = !hidden;
  stage.setHidden(hidden);
  panel.hint(hidden ? "boxes are hidden: H shows them" : "");
}

function escape() {
  stage.cancel();
  if (zoomed || !mode) {
    zoomed = false;
    stage.view.fit();
  }
  setMode("");
  render();
}

const COMMANDS = {
  accept: () => ofTheBox("accept"),
  drop: () => ofTheBox("drop"),
  classes,
  edit: () => toggle("edit"),
  draw: () => toggle("draw"),
  zoom,
  undo,
  done: finish,
  previous: () => turn(-1),
  following: () => turn(1),
  back: () => step(-1),
  next: () => step(1),
  hide,
  escape,
};
const KEYS = {
  a: "accept", Enter: "accept", d: "drop", Delete: "drop", Backspace: "drop", c: "classes",
  e: "edit", n: "draw", z: "zoom", u: "undo", j: "next", k: "back", ArrowDown: "next",
  ArrowUp: "back", ArrowRight: "following", ArrowLeft: "previous", PageDown: "following",
  PageUp: "previous", " ": "done", h: "hide", Escape: "escape",
};

/** The command of a key, or null: browsers' own shortcuts and controls in focus keep theirs. */
function commandOf(event) {
  const { key, shiftKey } = event;
  const letter = key.length === 1 ? key.toLowerCase() : key;
  if (event.ctrlKey || event.metaKey) return letter === "z" ? COMMANDS.undo : null;
  if (event.altKey || at("class-dialog").open) return null;
  if ((key === " " || key === "Enter") && event.target.closest("button")) return null;
  if (key === "Tab") return tab(shiftKey ? -1 : 1, event.target);
  const digit = Number(key);
  if (digit >= 1 && digit <= Math.min(9, session.classes.length)) {
    return () => setClass(session.classes[digit - 1].id);
  }
  const command = COMMANDS[KEYS[letter]] ?? null;
  // whether a box is being fixed shows when it is the key's turn
  if (key.startsWith("Arrow")) {
    return () => (mode === "edit" || shiftKey ? nudge(key, shiftKey) : command());
  }
  if (key === "Enter") return () => (mode === "edit" ? escape() : command());
  return command;
}

/** Tab goes through the boxes while the picture has the focus, and after the last one leaves it. */
function tab(by, target) {
  if (target !== at("stage") && target !== document.body) return null;
  const place = picture.boxes.findIndex((box) => box.id === selected) + by;
  return place >= 0 && place < picture.boxes.length ? () => step(by) : null;
}

document.addEventListener("keydown", (event) => {
  const command = picture && commandOf(event);
  if (!command) return;
  event.preventDefault();
  const nudges = event.key.startsWith("Arrow") && (event.shiftKey || mode === "edit");
  run(command, { flushing: !nudges });
});
for (const button of document.querySelectorAll("[data-command]")) {
  button.addEventListener("click", (event) => {
    run(COMMANDS[button.dataset.command]);
    // after the mouse the keys are the picture's again
    if (event.detail) at("stage").focus({ preventScroll: true });
  });
}

at("set").textContent = session.name;
document.title = `Review ${session.name}`;
const asked = location.hash ? Number(location.hash.slice(1)) : NaN;
const first = session.queue.includes(asked) ? asked : session.queue.find((row) => !done.has(row));
if (session.queue.length) await run(() => show(first ?? session.queue[0]));
at("stage").focus({ preventScroll: true });
