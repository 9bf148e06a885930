/** To the nearest whole number, halves to the even one: as Python, numpy and OpenCV round. */
export function roundHalfEven(value) {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 === 0 ? low : low + 1;
}
