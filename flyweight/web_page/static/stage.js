// The picture, or the camera, with the boxes over it.

import { drawDetections } from "./draw.js";

const byId = (id) => document.getElementById(id);

/** Makes the stage; `onPoint(detection or null)` is called as the mouse moves over boxes. */
export function makeStage({ onPoint }) {
  const frame = byId("frame"), holder = byId("picture"), video = byId("video"), boxes = byId("boxes");
  let shown = { width: 1, height: 1, detections: [], lit: null };
  let asked = false;
  let mouse = null; // where it is, in picture pixels

  function draw() {
    asked = false;
    const unit = window.devicePixelRatio || 1;
    const width = Math.round(frame.clientWidth * unit), height = Math.round(frame.clientHeight * unit);
    if (boxes.width !== width || boxes.height !== height) Object.assign(boxes, { width, height });
    const context = boxes.getContext("2d");
    context.clearRect(0, 0, width, height);
    drawDetections(context, shown.detections, { scale: width / shown.width, unit, lit: shown.lit });
  }

  /** Once for all that changes before the browser draws next. */
  function redraw() {
    if (!asked) requestAnimationFrame(draw);
    asked = true;
  }

  function resize(width, height) {
    shown = { ...shown, width, height };
    frame.style.setProperty("--ratio", width / height);
    byId("welcome").hidden = true;
    frame.hidden = false;
    redraw();
  }

  const pointAtMouse = () => onPoint(mouse && boxUnder(shown.detections, ...mouse));
  boxes.addEventListener("pointermove", (event) => {
    const scale = shown.width / boxes.clientWidth;
    mouse = [event.offsetX * scale, event.offsetY * scale];
    pointAtMouse();
  });
  boxes.addEventListener("pointerleave", () => {
    mouse = null;
    pointAtMouse();
  });
  new ResizeObserver(redraw).observe(frame);

  return {
    video,
    showPicture(picture) {
      picture.canvas.setAttribute("role", "img");
      picture.canvas.setAttribute("aria-label", picture.name);
      holder.replaceChildren(picture.canvas);
      video.hidden = true;
      resize(picture.width, picture.height);
    },
    showVideo() {
      holder.replaceChildren();
      video.hidden = false;
      resize(video.videoWidth, video.videoHeight);
    },
    showDetections(detections) {
      shown = { ...shown, detections, lit: null };
      redraw();
    },
    /** For new detections: the mouse is over another one. */
    pointAgain() {
      if (mouse) pointAtMouse();
    },
    light(lit) {
      if (lit === shown.lit) return;
      shown = { ...shown, lit };
      redraw();
    },
  };
}

/** The smallest box around a place of the picture, or null. */
function boxUnder(detections, x, y) {
  const area = ({ box: [x1, y1, x2, y2] }) => (x2 - x1) * (y2 - y1);
  return detections
    .filter(({ box: [x1, y1, x2, y2] }) => x1 <= x && x <= x2 && y1 <= y && y <= y2)
    .reduce((best, each) => (best === null || area(each) < area(best) ? each : best), null);
}
