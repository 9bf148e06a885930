// Finds objects in a PNG with a file that `flyweight export --to onnx` wrote:
//
//   node detect.js MODEL.onnx PICTURE.png [SCORE] [INPUT]
//
// prints one JSON object with the detections above SCORE (0.3), boxes xyxy in pixels of the picture,
// and writes the bytes that the network was given to the file INPUT, if one is named.
// The modules are those of Flyweight's web page; they know no page, so they run here too, and with
// onnxruntime-node in place of onnxruntime-web.

import { readFileSync, writeFileSync } from "node:fs";
import * as ort from "onnxruntime-web";
import { PNG } from "pngjs";
import { openPredictor } from "../../flyweight/web_page/static/detector/predictor.js";
import { preprocess } from "../../flyweight/web_page/static/detector/preprocess.js";

const [modelFile, pictureFile, score = "0.3", inputFile] = process.argv.slice(2);
if (!pictureFile) {
  console.error("usage: node detect.js MODEL.onnx PICTURE.png [SCORE] [INPUT]");
  process.exit(2);
}

ort.env.wasm.numThreads = 1;
const predictor = await openPredictor(ort, new Uint8Array(readFileSync(modelFile)));
const picture = PNG.sync.read(readFileSync(pictureFile)); // RGBA
const found = await predictor.predict(picture, { score: Number(score) });
if (inputFile) writeFileSync(inputFile, preprocess(predictor.manifest.preprocessing, picture).data);

const detections = Array.from(found.labels, (label, index) => ({
  label: predictor.manifest.class_names[label],
  class_id: label,
  score: found.scores[index],
  box_xyxy: Array.from(found.boxes.subarray(4 * index, 4 * index + 4)),
}));
console.log(JSON.stringify({ picture: pictureFile, detections }));
