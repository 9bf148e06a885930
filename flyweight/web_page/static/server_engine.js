// The model run by the server that the page came from.

import { fileOf } from "./picture.js";

export async function openServerEngine(config) {
  const address = new URL(config.detect, document.baseURI);
  return {
    note: "On the server; the way includes waiting for others",
    privacy: "Runs on the server: pictures are sent there.",
    steps: { decode: "Read", detect: "Detect", way: "Way" },
    /** {boxes, scores, labels, milliseconds}; boxes in the pixels of the picture's canvas. */
    detect: async (picture, score) => {
      const form = new FormData();
      form.append("image", await fileOf(picture), picture.name);
      address.searchParams.set("score", score);
      const began = performance.now();
      const { images: [found] } = await send(address, form);
      const all = performance.now() - began;
      const { decode, detect } = found.ms;
      // where the server was sent the file itself, its boxes are in the file's own pixels
      const scale = picture.canvas.width / found.width;
      return {
        boxes: Float32Array.from(found.boxes_xyxy.flat(), (value) => value * scale),
        scores: Float32Array.from(found.scores),
        labels: Int32Array.from(found.labels),
        milliseconds: { decode, detect, way: Math.max(0, all - decode - detect) },
      };
    },
    close: () => {},
  };
}

async function send(address, form) {
  let response;
  try {
    response = await fetch(address, { method: "POST", body: form });
  } catch {
    throw new Error("the server does not answer");
  }
  if (response.ok) return response.json();
  if (response.status === 503) throw new Error("the server is busy, try again in a moment");
  const problem = await response.json().catch(() => ({}));
  throw new Error(problem.detail ?? problem.title ?? `the server answered ${response.status}`);
}
