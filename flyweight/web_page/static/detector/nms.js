// Non-maximum suppression, class-aware, as flyweight.core.nms does it, in its 32-bit arithmetic:
// greedy; DIoU-NMS (Zheng et al. 2020, section 3.3); Soft-NMS (Bodla et al. 2017, section 3).

// A anchors, C classes, N candidates

const f32 = Math.fround;

/**
 * From the dense outputs of one picture to its detections.
 *
 * boxes: Float32Array of A x (x1, y1, x2, y2); scores: Float32Array of A x C.
 * thresholds: the manifest's, with score, iou, candidates_per_class, max_detections, nms, sigma.
 * Returns {boxes, scores, labels}, best first.
 */
export function selectDetections(boxes, scores, classes, thresholds) {
  const found = candidates(boxes, scores, classes, thresholds);
  const soft = thresholds.nms === "soft_linear" || thresholds.nms === "soft_gaussian";
  const kept = soft ? softNms(found, thresholds) : hardNms(found, thresholds);
  return {
    boxes: Float32Array.from(kept.flatMap((each) => each.box)),
    scores: Float32Array.from(kept, (each) => each.score),
    labels: Int32Array.from(kept, (each) => each.label),
  };
}

/** Scores above the threshold, the best of each class, in the order of the anchors. */
function candidates(boxes, scores, classes, thresholds) {
  const least = f32(thresholds.score);
  const found = [];
  for (let place = 0; place < scores.length; place++) {
    if (scores[place] > least) {
      const anchor = Math.floor(place / classes);
      const box = Array.from(boxes.subarray(4 * anchor, 4 * anchor + 4));
      found.push({ place, label: place - anchor * classes, score: scores[place], box });
    }
  }
  if (found.length <= thresholds.candidates_per_class) return found;
  const counts = new Int32Array(classes);
  return bestFirst(found)
    .filter(({ label }) => counts[label]++ < thresholds.candidates_per_class)
    .sort((a, b) => a.place - b.place);
}

/** A sorted copy; equal scores stay in their order. */
const bestFirst = (found) => found.slice().sort((a, b) => b.score - a.score);

function hardNms(found, { iou, max_detections: most, nms }) {
  const overlaps = nms === "diou" ? overlapsByDistance : overlapsByArea;
  const kept = [];
  for (const each of bestFirst(found)) {
    if (kept.length >= most) break;
    const falls = kept.some(
      (better) => better.label === each.label && overlaps(better.box, each.box, f32(iou)),
    );
    if (!falls) kept.push(each);
  }
  return kept;
}

function intersection(a, b) {
  const width = f32(Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const height = f32(Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  return width > 0 && height > 0 ? f32(width * height) : 0;
}

function union(a, b, common) {
  const first = f32(f32(a[2] - a[0]) * f32(a[3] - a[1]));
  const second = f32(f32(b[2] - b[0]) * f32(b[3] - b[1]));
  return f32(f32(first + second) - common);
}

function overlapsByArea(a, b, threshold) {
  const common = intersection(a, b);
  // without a division: two empty boxes have IoU 0 and not NaN
  return common > f32(threshold * union(a, b, common));
}

const squared = (value) => f32(f32(value) * f32(value));
const ratio = (part, whole) => (whole > 0 ? f32(part / whole) : 0);

function overlapsByDistance(a, b, threshold) {
  const common = intersection(a, b);
  const across = (low, high) => Math.max(a[high], b[high]) - Math.min(a[low], b[low]);
  const diagonal = f32(squared(across(0, 2)) + squared(across(1, 3)));
  const apart = (low, high) => f32(f32(a[low] + a[high]) - b[low]) - b[high];
  const distance = f32(f32(squared(apart(0, 2)) + squared(apart(1, 3))) / 4);
  return f32(ratio(common, union(a, b, common)) - ratio(distance, diagonal)) > threshold;
}

/** The best box stays, those of its class that it overlaps lose score, and so on (figure 2). */
function softNms(found, thresholds) {
  const least = f32(thresholds.score);
  const byClass = new Map();
  for (const each of bestFirst(found)) {
    if (!byClass.has(each.label)) byClass.set(each.label, []);
    byClass.get(each.label).push({ ...each });
  }
  const labels = [...byClass.keys()].sort((a, b) => a - b);
  const lowered = labels.flatMap((label) => softNmsOfClass(byClass.get(label), thresholds, least));
  return bestFirst(lowered).slice(0, thresholds.max_detections);
}

function softNmsOfClass(all, { iou: threshold, nms, sigma }, least) {
  let left = all;
  while (left.length) {
    const best = left.reduce((a, b) => (b.score > a.score ? b : a));
    if (!(best.score > least)) break;
    left = left.filter((each) => each !== best);
    for (const each of left) {
      const common = intersection(each.box, best.box);
      const iou = ratio(common, union(each.box, best.box, common));
      const factor = nms === "soft_linear"
        ? (iou >= f32(threshold) ? f32(1 - iou) : 1)
        : f32(Math.exp(f32(-squared(iou) / f32(sigma))));
      each.score = f32(each.score * factor);
    }
  }
  return all.filter((each) => each.score > least);
}
