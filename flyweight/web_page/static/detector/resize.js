// Resizing as OpenCV does it: bilinear, and by area where a picture shrinks more than twice.
// OpenCV's fixed-point weights and roundings are kept, so that both see the same pixels.

// A frame is {data, width, height}: uint8 RGB (Flyweight's) or RGBA (a canvas's), row by row.

import { roundHalfEven } from "./rounding.js";

const BITS = 11; // of a bilinear weight
const f32 = Math.fround;
const SHRINKS_MUCH = 2.01; // as flyweight.core.preprocessing

/** RGB `{data: Uint8ClampedArray, width, height}` of a frame at another size. */
export function resize(frame, width, height) {
  const scaleX = 1 / (width / frame.width), scaleY = 1 / (height / frame.height);
  if (frame.width === width && frame.height === height) return withoutAlpha(frame);
  const byArea = Math.max(frame.height / height, frame.width / width) > SHRINKS_MUCH;
  // OpenCV takes halving by area too, and by area only what grows in neither direction.
  const halves = scaleX === 2 && scaleY === 2;
  if (halves) return halve(frame);
  if (byArea && scaleX >= 1 && scaleY >= 1) return shrinkByArea(frame, width, height);
  const taps = byArea ? areaLikeTaps : bilinearTaps;
  const columns = atEdges(taps(frame.width, width, scaleX), frame.width - 1);
  return interpolate(frame, columns, taps(frame.height, height, scaleY), { width, height });
}

const channelsOf = ({ data, width, height }) => data.length / (width * height);

function withoutAlpha(frame) {
  const { data, width, height } = frame;
  const channels = channelsOf(frame);
  const rgb = new Uint8ClampedArray(width * height * 3);
  if (channels === 3) rgb.set(data);
  else {
    for (let from = 0, to = 0; to < rgb.length; from += channels, to += 3) {
      rgb[to] = data[from];
      rgb[to + 1] = data[from + 1];
      rgb[to + 2] = data[from + 2];
    }
  }
  return { data: rgb, width, height };
}

function halve(frame) {
  const channels = channelsOf(frame), line = frame.width * channels;
  const width = frame.width / 2, height = frame.height / 2;
  const rgb = new Uint8ClampedArray(width * height * 3);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = 2 * (y * line + x * channels);
      for (let c = 0; c < 3; c++) {
        const at = from + c;
        const above = frame.data[at] + frame.data[at + channels];
        rgb[to++] = (above + frame.data[at + line] + frame.data[at + line + channels] + 2) >> 2;
      }
    }
  }
  return { data: rgb, width, height };
}

/** Of every target pixel: the first of its two sources, and the second's weight, 0 to 2048. */
function tapsBy(size, place) {
  const first = new Int32Array(size), weight = new Int32Array(size);
  for (let at = 0; at < size; at++) {
    const [source, share] = place(at);
    first[at] = source;
    weight[at] = roundHalfEven(share * (1 << BITS));
  }
  return { first, weight };
}

/** Beyond an edge a column is the one at the edge; rows are clamped as they are read. */
function atEdges({ first, weight }, last) {
  for (let at = 0; at < first.length; at++) {
    if (first[at] >= 0 && first[at] < last) continue;
    first[at] = Math.min(Math.max(first[at], 0), last);
    weight[at] = 0;
  }
  return { first, weight, last };
}

function bilinearTaps(sourceSize, size, scale) {
  return tapsBy(size, (at) => {
    const place = Math.fround((at + 0.5) * scale - 0.5);
    return [Math.floor(place), Math.fround(place - Math.floor(place))];
  });
}

/** What OpenCV takes for "by area" where one direction shrinks and the other grows. */
function areaLikeTaps(sourceSize, size, scale) {
  return tapsBy(size, (at) => {
    const source = Math.floor(at * scale);
    const share = Math.fround(at + 1 - (source + 1) * (size / sourceSize));
    return [source, share <= 0 ? 0 : Math.fround(share - Math.floor(share))];
  });
}

function interpolate(frame, columns, rows, { width, height }) {
  const channels = channelsOf(frame);
  const rgb = new Uint8ClampedArray(width * height * 3);
  const lines = [new Int32Array(width * 3), new Int32Array(width * 3)];
  const held = [-1, -1]; // which source rows `lines` are of
  const within = (row) => Math.min(Math.max(row, 0), frame.height - 1);
  const line = (source, spare) => {
    let slot = held.indexOf(source);
    if (slot < 0) {
      slot = spare;
      held[slot] = source;
      interpolateLine(frame, source, channels, columns, lines[slot]);
    }
    return slot;
  };
  for (let y = 0, to = 0; y < height; y++) {
    const above = within(rows.first[y]), below = within(rows.first[y] + 1);
    const upper = line(above, held[0] === below ? 1 : 0), lower = line(below, 1 - upper);
    const a = lines[upper], b = lines[lower];
    const share = rows.weight[y], rest = (1 << BITS) - share;
    for (let x = 0; x < a.length; x++, to++) {
      rgb[to] = (((rest * (a[x] >> 4)) >> 16) + ((share * (b[x] >> 4)) >> 16) + 2) >> 2;
    }
  }
  return { data: rgb, width, height };
}

function interpolateLine({ data, width }, row, channels, { first, weight, last }, line) {
  const start = row * width * channels;
  for (let x = 0, to = 0; x < first.length; x++, to += 3) {
    const left = start + first[x] * channels;
    const right = first[x] < last ? left + channels : left;
    const share = weight[x], rest = (1 << BITS) - share;
    line[to] = data[left] * rest + data[right] * share;
    line[to + 1] = data[left + 1] * rest + data[right + 1] * share;
    line[to + 2] = data[left + 2] * rest + data[right + 2] * share;
  }
}

/** Of every target pixel: its first source, how many, and the share of each (cv2's area table). */
function areaShares(sourceSize, size, scale) {
  const first = new Int32Array(size), ends = new Int32Array(size), shares = [];
  for (let at = 0; at < size; at++) {
    const from = at * scale, to = from + scale, cell = Math.min(scale, sourceSize - from);
    const end = Math.min(Math.floor(to), sourceSize - 1);
    const start = Math.min(Math.ceil(from), end);
    const ragged = start - from > 1e-3;
    first[at] = ragged ? start - 1 : start;
    if (ragged) shares.push((start - from) / cell);
    for (let source = start; source < end; source++) shares.push(1 / cell);
    if (to - end > 1e-3) shares.push(Math.min(to - end, 1, cell) / cell);
    ends[at] = shares.length;
  }
  return { first, ends, shares: Float32Array.from(shares) };
}

function shrinkByArea(frame, width, height) {
  const { data } = frame;
  const channels = channelsOf(frame);
  const columns = areaShares(frame.width, width, 1 / (width / frame.width));
  const rows = areaShares(frame.height, height, 1 / (height / frame.height));
  const rgb = new Uint8ClampedArray(width * height * 3);
  const sums = new Float32Array(width * 3);
  for (let y = 0, row = 0; y < height; y++) {
    sums.fill(0);
    for (let source = rows.first[y]; row < rows.ends[y]; source++, row++) {
      addLine(data, source * frame.width * channels, channels, columns, rows.shares[row], sums);
    }
    rgb.set(sums, y * sums.length); // a clamped array rounds half to even, as OpenCV
  }
  return { data: rgb, width, height };
}

function addLine(data, start, channels, { first, ends, shares }, weight, sums) {
  for (let x = 0, at = 0, to = 0; x < first.length; x++, to += 3) {
    let from = start + first[x] * channels;
    let red = 0, green = 0, blue = 0;
    for (; at < ends[x]; at++, from += channels) {
      const share = shares[at];
      red = f32(red + f32(data[from] * share));
      green = f32(green + f32(data[from + 1] * share));
      blue = f32(blue + f32(data[from + 2] * share));
    }
    sums[to] += f32(weight * red);
    sums[to + 1] += f32(weight * green);
    sums[to + 2] += f32(weight * blue);
  }
}
