// From a picture to a network's input and back, as flyweight.core.preprocessing does it.
// `preprocessing` is that of the manifest: size_hw, resize, pad_value, short_side, long_side.

import { resize } from "./resize.js";
import { roundHalfEven } from "./rounding.js";

const scaled = (side, scale) => Math.max(1, roundHalfEven(side * scale));

/** [height, width] that a picture itself takes in the input, whole pixels. */
export function contentSize(preprocessing, [height, width]) {
  const [targetHeight, targetWidth] = preprocessing.size_hw;
  if (preprocessing.resize === "stretch") return [targetHeight, targetWidth];
  if (preprocessing.resize === "shortest_side") {
    const short = preprocessing.short_side || Math.min(targetHeight, targetWidth);
    const long = preprocessing.long_side || Math.max(targetHeight, targetWidth);
    const wanted = Math.min(short / Math.min(height, width), long / Math.max(height, width));
    const content = [scaled(height, wanted), scaled(width, wanted)];
    if (content[0] <= targetHeight && content[1] <= targetWidth) return content;
  }
  const scale = Math.min(targetHeight / height, targetWidth / width);
  return [
    Math.min(targetHeight, scaled(height, scale)),
    Math.min(targetWidth, scaled(width, scale)),
  ];
}

/** {scaleX, scaleY, left, top}: pixels of a picture of [height, width] to pixels of the input. */
export function placement(preprocessing, sizeHw) {
  const [targetHeight, targetWidth] = preprocessing.size_hw;
  const [height, width] = contentSize(preprocessing, sizeHw);
  const centred = preprocessing.resize === "letterbox";
  return {
    scaleX: width / sizeHw[1],
    scaleY: height / sizeHw[0],
    left: centred ? Math.floor((targetWidth - width) / 2) : 0,
    top: centred ? Math.floor((targetHeight - height) / 2) : 0,
  };
}

/**
 * Resize and pad a frame (see resize.js).
 *
 * Returns {data, placement}: uint8 RGB of the input's size, and where the picture went.
 */
export function preprocess(preprocessing, frame) {
  if (preprocessing.canvas === "batch") {
    throw new Error("the model's input has no fixed size; export it again");
  }
  const [targetHeight, targetWidth] = preprocessing.size_hw;
  const sizeHw = [frame.height, frame.width];
  const place = placement(preprocessing, sizeHw);
  const [height, width] = contentSize(preprocessing, sizeHw);
  const content = resize(frame, width, height);
  if (height === targetHeight && width === targetWidth) {
    return { data: new Uint8Array(content.data.buffer), placement: place };
  }
  const data = new Uint8Array(targetHeight * targetWidth * 3).fill(preprocessing.pad_value);
  for (let y = 0; y < height; y++) {
    const row = content.data.subarray(y * width * 3, (y + 1) * width * 3);
    data.set(row, ((y + place.top) * targetWidth + place.left) * 3);
  }
  return { data, placement: place };
}

/** `boxes` (x1, y1, x2, y2 in a row) from pixels of the input to those of the picture, clipped. */
export function invertBoxes(boxes, { scaleX, scaleY, left, top }, [height, width]) {
  return Float32Array.from(boxes, (value, at) =>
    at % 2 === 0
      ? Math.min(Math.max((value - left) / scaleX, 0), width)
      : Math.min(Math.max((value - top) / scaleY, 0), height),
  );
}
