// The page: pictures in, boxes shown. Parts do the work; here they are put together.

import { openBrowserEngine } from "./browser_engine.js";
import { eachFrame, startCamera } from "./camera.js";
import { makeClasses, makeList, showProgress, showTimes } from "./panel.js";
import { canvasOf, grabFrame, readPicture } from "./picture.js";
import { saveBoxes, savePicture } from "./save.js";
import { openServerEngine } from "./server_engine.js";
import { makeStage } from "./stage.js";

const byId = (id) => document.getElementById(id);
const OPENERS = { browser: openBrowserEngine, server: openServerEngine };
// Below it nothing is asked for: the slider's lowest.
const LEAST_SCORE = 0.05;

const stage = makeStage({ onPoint: point });
const list = makeList({ onPoint: point });
let config = null;
let engine = null; // a promise
let classes = null;
let picture = null; // what is shown, or was seen last by the camera
let answer = null; // all that the engine said of it
let camera = null;
let rate = null;
let turn = 0; // of the newest picture: answers to older ones are dropped

// --- what is shown

const threshold = () => byId("threshold").value / 100;

function above() {
  if (answer === null) return [];
  return Array.from(answer.scores, (score, at) => ({
    score,
    label: answer.labels[at],
    name: config.manifest.class_names[answer.labels[at]],
    box: Array.from(answer.boxes.subarray(4 * at, 4 * at + 4), (value) => value / picture.scale),
  })).filter(({ score }) => score > Math.fround(threshold()));
}

const chosen = (detections) => detections.filter(({ label }) => classes.has(label));

function refresh() {
  byId("threshold-text").textContent = threshold().toFixed(2);
  if (answer === null) return;
  const all = above(), shown = chosen(all);
  classes.count(all);
  list.show(shown, { live: camera !== null });
  stage.showDetections(shown);
  stage.pointAgain();
  list.pointAgain();
}

function point(detection) {
  stage.light(detection);
  list.light(detection);
}

function complain(text) {
  byId("notice").hidden = !text;
  byId("notice-text").textContent = text;
}

function busy(is) {
  byId("main").setAttribute("aria-busy", String(is));
}

function setState(state) {
  document.body.dataset.state = state;
}

// --- the engine

async function start(options) {
  setState("loading");
  try {
    config ??= await loadConfig();
  } catch (error) {
    return fail(error);
  }
  await use(preferred(), options);
}

async function loadConfig() {
  const response = await fetch("config.json").catch(() => null);
  if (!response?.ok) throw new Error("The page's settings (config.json) could not be loaded.");
  const content = await response.json();
  const { class_names: names, model, preprocessing } = content.manifest;
  byId("name").textContent = document.title = model.name ?? "Object detector";
  const [height, width] = preprocessing.size_hw;
  const some = names.length > 4 ? `${names.length} classes` : names.join(", ");
  byId("about").textContent = `${some} · ${width} × ${height} pixels`;
  classes = makeClasses(names, { onChange: refresh });
  const least = Math.ceil(100 * Math.max(LEAST_SCORE, content.manifest.thresholds.score));
  byId("threshold").min = Math.min(least, 95);
  byId("engines").hidden = content.engines.length < 2;
  return content;
}

/** The engine that can run here, the configured first. */
function preferred() {
  const works = (name) => name !== "browser" || typeof WebAssembly === "object";
  return config.engines.find(works) ?? config.engines[0];
}

/** Open an engine in place of the one before, and ask it about the picture that is shown. */
async function use(name, { afresh = false } = {}) {
  setState("loading");
  byId("engines").querySelector(`[value=${name}]`).checked = true;
  byId("failure").hidden = true;
  byId("frame").hidden = picture === null && camera === null;
  byId("welcome").hidden = !byId("frame").hidden;
  showProgress({ loaded: 0, total: 0 });
  const before = engine;
  const mine = engine = OPENERS[name](config, { onProgress: showProgress, afresh });
  before?.then((old) => old.close(), () => {});
  try {
    const opened = await mine;
    if (mine !== engine) return;
    byId("privacy").textContent = opened.privacy;
    showProgress(null);
    setState("ready");
  } catch (error) {
    if (mine === engine) fail(error);
    return;
  }
  if (picture !== null && camera === null) await look(picture);
}

function fail(error) {
  stopCamera();
  setState("failed");
  showProgress(null);
  byId("welcome").hidden = true;
  byId("frame").hidden = true;
  byId("failure-text").textContent = error.message;
  byId("failure").hidden = false;
}

/** Whether there is an engine, or will be one. */
function works() {
  if (document.body.dataset.state !== "failed") return true;
  complain("The detector did not start: try again first.");
  return false;
}

// --- pictures

async function show(blob, name) {
  if (!works()) return;
  stopCamera();
  const mine = ++turn;
  busy(true);
  try {
    const read = await readPicture(blob, name);
    if (mine !== turn) return;
    complain("");
    picture = read;
    answer = null;
    stage.showDetections([]);
    stage.showPicture(picture);
    byId("toolbar").hidden = false;
    list.say("Looking…");
    await look(picture);
  } catch (error) {
    if (mine === turn) complain(error.message);
  } finally {
    if (mine === turn) busy(false);
  }
}

/** As `detect`; what goes wrong is said on the page. */
async function look(asked) {
  busy(true);
  await detect(asked).catch((error) => {
    list.say("Not looked at.");
    complain(error.message);
  });
  busy(false);
}

/** Ask the engine about `asked`, and show its answer unless another picture has come meanwhile. */
async function detect(asked) {
  const mine = turn, asking = engine;
  const outdated = () => mine !== turn || asking !== engine;
  const running = await asking.catch(() => null);
  if (running === null || outdated()) return; // it has failed, which is on the page
  let said;
  try {
    said = await running.detect(asked, LEAST_SCORE);
  } catch (error) {
    if (outdated()) return;
    throw new Error(`Nothing was found out about ${asked.name}: ${error.message}.`);
  }
  if (outdated()) return;
  picture = asked;
  answer = said;
  refresh();
  showTimes(said.milliseconds, running.steps, { rate, note: running.note });
}

// --- the camera

async function toggleCamera() {
  if (camera !== null) return stopCamera();
  if (!works()) return;
  const mine = ++turn;
  complain("");
  try {
    const started = await startCamera(stage.video);
    if (mine !== turn) return started.stop();
    camera = started;
  } catch (error) {
    return complain(error.message);
  }
  camera.onEnd(stopCamera);
  answer = null;
  stage.showDetections([]);
  stage.showVideo();
  byId("toolbar").hidden = false;
  nameCamera("Stop the camera");
  await watch(camera).catch((error) => {
    stopCamera();
    complain(error.message);
  });
}

async function watch(mine) {
  // by turns: the frame that was answered stays while the next one is asked about
  const canvases = [canvasOf(1, 1), canvasOf(1, 1)];
  let last = null;
  const glance = async () => {
    if (document.hidden || !stage.video.videoWidth) return;
    const now = performance.now();
    // smoothed, so that the number can be read
    if (last !== null) rate = 0.8 * (rate ?? 1000 / (now - last)) + 0.2 * (1000 / (now - last));
    last = now;
    canvases.reverse();
    await detect(grabFrame(stage.video, canvases[0], "camera"));
  };
  await eachFrame(stage.video, glance, () => camera === mine);
}

/** The frame that was looked at last stays, with its boxes. */
function stopCamera() {
  if (camera === null) return;
  camera.stop();
  camera = null;
  rate = null;
  turn++;
  nameCamera("Use the camera");
  if (answer === null) return;
  stage.showPicture(picture);
  refresh();
}

function nameCamera(text) {
  byId("camera").textContent = text;
}

// --- what a person does

const commands = {
  choose: () => byId("file").click(),
  camera: toggleCamera,
  retry: () => start({ afresh: true }),
  all: () => classes.setAll(true),
  none: () => classes.setAll(false),
  "save-picture": () =>
    answer && savePicture(picture, chosen(above())).catch((error) => complain(error.message)),
  "save-boxes": () =>
    answer && saveBoxes(picture, chosen(above()), { model: config.manifest.model.name, threshold: threshold() }),
};

document.addEventListener("click", ({ target }) => {
  commands[target.closest("[data-command]")?.dataset.command]?.();
});
byId("notice-close").addEventListener("click", () => complain(""));
byId("threshold").addEventListener("input", refresh);
byId("engines").addEventListener("change", ({ target }) => use(target.value));
byId("file").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  target.value = ""; // so that the same file can be chosen again
  if (file) show(file, file.name);
});
document.addEventListener("paste", ({ clipboardData }) => {
  const [file] = clipboardData.files;
  if (file) show(file, file.name || "pasted picture");
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.toggle("dropping", event.dataTransfer.types.includes("Files"));
});
document.addEventListener("dragleave", ({ relatedTarget }) => {
  if (relatedTarget === null) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const [file] = event.dataTransfer.files;
  if (file) show(file, file.name);
});

refresh();
start();
