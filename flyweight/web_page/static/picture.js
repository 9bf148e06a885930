// From a file to pixels, upright and without colour management, as Flyweight reads pictures.

// Beyond this many pixels a picture is shrunk first: phones give a canvas no more.
const MOST_PIXELS = 16e6;

/**
 * The picture of a file: {name, width, height, scale, canvas, blob}.
 *
 * width and height are the file's own; `scale` is the canvas's share of them. Throws an Error that
 * says what is wrong.
 */
export async function readPicture(blob, name) {
  let bitmap;
  try {
    // upright without being asked: older browsers do not know the word for it
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Error(`${name} is not a picture that this browser can read.`);
  }
  const { width, height } = bitmap;
  const scale = Math.min(1, Math.sqrt(MOST_PIXELS / (width * height)));
  const canvas = canvasOf(Math.round(width * scale) || 1, Math.round(height * scale) || 1);
  const context = contextOf(canvas);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return { name, width, height, scale, canvas, blob };
}

/** The present frame of a video as a picture; `canvas` is used again. */
export function grabFrame(video, canvas, name) {
  const { videoWidth: width, videoHeight: height } = video;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  contextOf(canvas).drawImage(video, 0, 0);
  return { name, width, height, scale: 1, canvas, blob: null };
}

/** {data, width, height} of a picture, RGBA, to be resized and looked at. */
export function pixelsOf({ canvas }) {
  return contextOf(canvas).getImageData(0, 0, canvas.width, canvas.height);
}

/** The picture as a file, for a server. */
export function fileOf({ blob, canvas }) {
  return blob ?? encode(canvas, "image/jpeg", 0.9);
}

/** A canvas as a Blob. */
export function encode(canvas, type, quality) {
  return new Promise((resolve, reject) => {
    const done = (made) => (made ? resolve(made) : reject(new Error("The picture is too large to save.")));
    canvas.toBlob(done, type, quality);
  });
}

export function canvasOf(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

// Pixels are read from each of them: they stay out of the graphics card.
const contextOf = (canvas) => canvas.getContext("2d", { willReadFrequently: true });
