// An exported .onnx file that finds objects: frames in, detections out. No page is needed: it runs
// in a web worker, and in Node with onnxruntime-web or onnxruntime-node.

import { readManifest } from "./manifest.js";
import { selectDetections } from "./nms.js";
import { invertBoxes, preprocess } from "./preprocess.js";

// What a person wants to see, as flyweight.runtime.predictor.
export const DISPLAY_SCORE = 0.3;

/**
 * Open a model.
 *
 * ort: the module onnxruntime-web or onnxruntime-node; model: Uint8Array of the .onnx file;
 * options: of the session, such as executionProviders.
 */
export async function openPredictor(ort, model, options = {}) {
  const manifest = readManifest(model);
  const session = await ort.InferenceSession.create(model, options);
  return {
    manifest,
    /** See `predict` below. */
    predict: (frame, { score = DISPLAY_SCORE } = {}) =>
      predict({ ort, session, manifest }, frame, score),
    release: () => session.release(),
  };
}

/**
 * Detections above `score` in a frame {data, width, height}, RGB or RGBA.
 *
 * Returns {boxes, scores, labels, milliseconds}: Float32Array of N x (x1, y1, x2, y2) in the frame's
 * pixels, Float32Array and Int32Array of N, best first; milliseconds of each step.
 */
async function predict({ ort, session, manifest }, frame, score) {
  const thresholds = { ...manifest.thresholds };
  thresholds.score = Math.max(score, thresholds.score);
  const began = performance.now();
  const { data, placement } = preprocess(manifest.preprocessing, frame);
  const prepared = performance.now();
  const outputs = await session.run({ [session.inputNames[0]]: inputTensor(ort, session, data, manifest) });
  const ran = performance.now();
  const selected = outputs.count
    ? selectedInGraph(outputs, thresholds.score)
    : selectDetections(...firstOfDense(outputs), thresholds);
  const boxes = invertBoxes(selected.boxes, placement, [frame.height, frame.width]);
  const milliseconds = {
    preprocess: prepared - began,
    network: ran - prepared,
    postprocess: performance.now() - ran,
  };
  return { ...selected, boxes, milliseconds };
}

/** uint8 [N, H, W, 3]; N is 1, or what the file wants, the other pictures black. */
function inputTensor(ort, session, data, manifest) {
  const fixed = session.inputMetadata?.[0]?.shape?.[0];
  const batch = typeof fixed === "number" && fixed > 1 ? fixed : 1;
  let pixels = data;
  if (batch > 1) {
    pixels = new Uint8Array(batch * data.length);
    pixels.set(data);
  }
  return new ort.Tensor("uint8", pixels, [batch, ...manifest.preprocessing.size_hw, 3]);
}

/** boxes [A, 4], scores [A, C] and C of the first picture of a run. */
function firstOfDense({ boxes, scores }) {
  const [, anchors, classes] = scores.dims;
  return [boxes.data.subarray(0, anchors * 4), scores.data.subarray(0, anchors * classes), classes];
}

/** Where NMS is in the graph it has used the manifest's threshold; a higher one cuts the list. */
function selectedInGraph({ boxes, scores, labels, count }, score) {
  const all = Number(count.data[0]);
  let kept = 0;
  while (kept < all && scores.data[kept] > Math.fround(score)) kept++;
  return {
    boxes: boxes.data.slice(0, 4 * kept),
    scores: scores.data.slice(0, kept),
    labels: Int32Array.from(labels.data.slice(0, kept), Number),
  };
}
