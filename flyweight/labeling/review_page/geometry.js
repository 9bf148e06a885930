// Boxes `xyxy` in picture pixels, and what dragging does to them.

/** Places in `xyxy` of the edges that a handle moves. */
export const EDGES = {
  n: [1], s: [3], w: [0], e: [2], nw: [0, 1], ne: [2, 1], sw: [0, 3], se: [2, 3],
};

export const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);

/** Corners in order, within a picture of `[height, width]`, to a hundredth. */
export function tidy([x1, y1, x2, y2], [height, width]) {
  const within = (value, most) => Math.round(Math.min(Math.max(value, 0), most) * 100) / 100;
  return [
    within(Math.min(x1, x2), width), within(Math.min(y1, y2), height),
    within(Math.max(x1, x2), width), within(Math.max(y1, y2), height),
  ];
}

/** The box with some of its `edges` moved; without any it moves as a whole and keeps its size. */
export function changed(box, edges, dx, dy, size) {
  if (edges) {
    const next = [...box];
    for (const edge of edges) next[edge] += edge % 2 ? dy : dx;
    return tidy(next, size);
  }
  const [height, width] = size;
  const x = Math.min(Math.max(dx, -box[0]), width - box[2]);
  const y = Math.min(Math.max(dy, -box[1]), height - box[3]);
  return tidy([box[0] + x, box[1] + y, box[2] + x, box[3] + y], size);
}
