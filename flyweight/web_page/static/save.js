// What a person takes away: the picture with its boxes, and the boxes as JSON.

import { drawDetections } from "./draw.js";
import { canvasOf, encode } from "./picture.js";

// A picture's longer side at which lines and letters are as large as on the screen.
const USUAL_SIDE = 900;

/** Save the picture with its boxes as PNG. */
export async function savePicture(picture, detections) {
  const { canvas: source, width } = picture;
  const canvas = canvasOf(source.width, source.height);
  const context = canvas.getContext("2d");
  context.drawImage(source, 0, 0);
  const unit = Math.max(0.6, Math.max(source.width, source.height) / USUAL_SIDE);
  drawDetections(context, detections, { scale: source.width / width, unit });
  download(await encode(canvas, "image/png"), `${stem(picture.name)}-boxes.png`);
}

/** Save the detections as JSON, each as `flyweight predict --json` writes it. */
export function saveBoxes(picture, detections, { model, threshold }) {
  const content = {
    picture: picture.name,
    size_hw: [picture.height, picture.width],
    model,
    score_threshold: threshold,
    detections: detections.map(({ name, label, score, box }) => ({
      label: name,
      class_id: label,
      score: round(score, 5),
      box_xyxy: box.map((value) => round(value, 2)),
    })),
  };
  const text = JSON.stringify(content, null, 1);
  download(new Blob([text], { type: "application/json" }), `${stem(picture.name)}-boxes.json`);
}

const round = (value, digits) => Number(value.toFixed(digits));
const stem = (name) => name.replace(/\.[^.]*$/, "") || "picture";

function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
