// Runs jobs of the page's modules in Node: JSON {detector, jobs} on stdin, JSON answers on stdout.

import { readFileSync } from "node:fs";

const { detector, jobs } = JSON.parse(readFileSync(0, "utf8"));
const load = (name) => import(new URL(name, detector));
const { contentSize, invertBoxes, placement, preprocess } = await load("preprocess.js");
const { selectDetections } = await load("nms.js");
const { readManifest } = await load("manifest.js");
const { classRgb } = await load("../class_colour.js");

const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
const floats = (text) => new Float32Array(bytes(text).buffer);

const tasks = {
  preprocess({ preprocessing, pixels, width, height }) {
    const made = preprocess(preprocessing, { data: bytes(pixels), width, height });
    return { pixels: Buffer.from(made.data).toString("base64"), placement: made.placement };
  },
  place: ({ preprocessing, size_hw: size }) => ({
    content: contentSize(preprocessing, size),
    placement: placement(preprocessing, size),
  }),
  invert: ({ boxes, placement: place, size_hw: size }) => Array.from(invertBoxes(floats(boxes), place, size)),
  select({ boxes, scores, classes, thresholds }) {
    const found = selectDetections(floats(boxes), floats(scores), classes, thresholds);
    return Object.fromEntries(Object.entries(found).map(([key, value]) => [key, Array.from(value)]));
  },
  manifest: ({ file }) => readManifest(bytes(file)),
  colour: ({ label }) => classRgb(label),
};

const answers = jobs.map(({ task, ...given }) => {
  try {
    return { value: tasks[task](given) };
  } catch (error) {
    return { error: error.message };
  }
});
process.stdout.write(JSON.stringify(answers));
