// Which part of the picture the stage shows: picture pixels at (x, y) in its corner, `scale` screen
// pixels for each of them.

const MOST_SCALE = 60;
const MARGIN = 12;

export function makeView(svg) {
  const view = { x: 0, y: 0, scale: 1, whole: true, fit, zoomAt, zoomTo, pan, toPicture };
  let width = 1;
  let height = 1;

  function screen() {
    const { clientWidth, clientHeight } = svg;
    return [Math.max(1, clientWidth), Math.max(1, clientHeight)];
  }

  function show(x, y, scale) {
    const [across, down] = screen();
    Object.assign(view, { x, y, scale });
    svg.setAttribute("viewBox", `${x} ${y} ${across / scale} ${down / scale}`);
  }

  /** The whole of a picture of this size, in its pixels. */
  function fit(size = [height, width]) {
    [height, width] = size;
    const [across, down] = screen();
    const scale = Math.min((across - 2 * MARGIN) / width, (down - 2 * MARGIN) / height);
    view.whole = true;
    centre(width / 2, height / 2, Math.max(scale, 1e-3));
  }

  function centre(x, y, scale) {
    const [across, down] = screen();
    show(x - across / scale / 2, y - down / scale / 2, scale);
  }

  /** Nearer by `factor`, what is at this point of the screen staying where it is. */
  function zoomAt(clientX, clientY, factor) {
    const [x, y] = toPicture(clientX, clientY);
    const scale = Math.min(MOST_SCALE, view.scale * factor);
    const used = scale / view.scale;
    view.whole = false;
    show(x - (x - view.x) / used, y - (y - view.y) / used, scale);
  }

  /** A box `xyxy` in the middle, with as much again around it. */
  function zoomTo([x1, y1, x2, y2]) {
    const [across, down] = screen();
    const scale = Math.min(across / (x2 - x1), down / (y2 - y1)) / 2.5;
    view.whole = false;
    centre((x1 + x2) / 2, (y1 + y2) / 2, Math.min(MOST_SCALE, scale));
  }

  /** Move the picture by screen pixels. */
  function pan(dx, dy) {
    view.whole = false;
    show(view.x - dx / view.scale, view.y - dy / view.scale, view.scale);
  }

  /** A point of the screen in picture pixels. */
  function toPicture(clientX, clientY) {
    const corner = svg.getBoundingClientRect();
    return [
      view.x + (clientX - corner.left) / view.scale,
      view.y + (clientY - corner.top) / view.scale,
    ];
  }

  return view;
}
