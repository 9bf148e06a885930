// A colour a class, the same as on Flyweight's own drawings (flyweight.core.drawing).

const GOLDEN_RATIO = 0.61803398875;

/** [red, green, blue] of a class, 0 to 255: neighbours are far apart, and it never changes. */
export function classRgb(label) {
  const hue = (0.58 + label * GOLDEN_RATIO) % 1, saturation = 0.78, value = 0.95;
  const channel = (offset) => {
    const sixth = (offset + hue * 6) % 6;
    const share = Math.max(0, Math.min(sixth, 4 - sixth, 1));
    return Math.round(255 * value * (1 - saturation * share));
  };
  return [channel(5), channel(3), channel(1)];
}

/** The same for CSS. */
export const classColour = (label) => `rgb(${classRgb(label).join(" ")})`;

/** Black or white, whichever reads better on the class's colour. */
export function inkOn(label) {
  const [red, green, blue] = classRgb(label);
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#111" : "#fff";
}
