// What stands beside the picture: boxes, classes, progress, and what the page has to say.

// Apart for colour-blind readers (Okabe & Ito 2008), bright enough for photographs.
const COLOURS = [
  "#56b4e9", "#ffb000", "#3ddc97", "#ff8ad0", "#f4e04d", "#ff7a4d", "#b9a5ff", "#d5d9de",
];
const MESSAGE_MS = 5000;

export const at = (id) => document.getElementById(id);

/** @param classes [{id, name, threshold}] */
export function makePanel(classes, told) {
  const place = new Map(classes.map((each, number) => [each.id, number]));
  let timer = 0;

  const colour = (category) => COLOURS[(place.get(category) ?? 7) % COLOURS.length];
  const nameOf = (category) => classes[place.get(category)]?.name ?? `class ${category}`;
  const thresholdOf = (category) => classes[place.get(category)]?.threshold ?? 0;
  const score = (box) => (typeof box.score === "number" ? box.score.toFixed(2) : "");

  /** What the tag of a box says. */
  function text(box) {
    const parts = [nameOf(box.category), score(box)];
    if (box.reviewed) parts.push("✓");
    else if (box.ignored) parts.push("?");
    return parts.filter(Boolean).join(" ");
  }

  function state(box) {
    return box.reviewed ?? (box.ignored ? "uncertain" : "");
  }

  /** A box in words, for a listener. */
  function words(box, number, count) {
    const parts = [`Box ${number} of ${count}`, nameOf(box.category)];
    if (score(box)) {
      parts.push(`score ${score(box)}`, `threshold ${thresholdOf(box.category).toFixed(2)}`);
    }
    return [...parts, state(box) || "not decided"].join(", ");
  }

  function part(tag, name, parent, content = "") {
    const made = parent.appendChild(document.createElement(tag));
    made.className = name;
    made.textContent = content;
    return made;
  }

  function meter(box, parent) {
    const bar = part("span", "meter", parent);
    part("i", "", bar).style.width = `${100 * box.score}%`;
    const mark = part("b", "", bar);
    mark.style.left = `calc(${100 * thresholdOf(box.category)}% - 1px)`;
    bar.title = `score ${box.score.toFixed(3)}, threshold ${thresholdOf(box.category).toFixed(3)}`;
  }

  /** Within the column alone: on a narrow screen the picture stays where it is. */
  function scrollTo(item) {
    const column = item.closest("section");
    const bottom = item.offsetTop + item.offsetHeight;
    column.scrollTop = Math.min(column.scrollTop, item.offsetTop);
    column.scrollTop = Math.max(column.scrollTop, bottom - column.clientHeight);
  }

  function renderBoxes(picture, selected) {
    const list = at("boxes");
    list.replaceChildren();
    for (const [index, box] of picture.boxes.entries()) {
      const item = list.appendChild(document.createElement("li"));
      item.setAttribute("role", "option");
      item.setAttribute("aria-label", words(box, index + 1, picture.boxes.length));
      item.setAttribute("aria-selected", String(box.id === selected));
      item.dataset.box = box.id;
      item.classList.toggle("ignored", box.ignored);
      item.classList.toggle("decided", Boolean(box.reviewed));
      part("span", "swatch", item).style.borderColor = colour(box.category);
      part("span", "class", item, nameOf(box.category));
      part("span", "score", item, score(box));
      part("span", "state", item, state(box));
      if (typeof box.score === "number") meter(box, item);
      item.addEventListener("click", () => told.select(box.id));
      if (box.id === selected) scrollTo(item);
    }
    at("no-boxes").hidden = picture.boxes.length > 0;
  }

  function renderClasses(current) {
    const list = at("classes");
    list.replaceChildren();
    for (const [number, each] of classes.entries()) {
      const item = list.appendChild(document.createElement("li"));
      const button = part("button", "", item);
      button.setAttribute("aria-pressed", String(each.id === current));
      part("span", "swatch", button).style.color = colour(each.id);
      part("span", "class", button, each.name);
      if (number < 9) part("kbd", "", button, String(number + 1));
      button.addEventListener("click", () => told.choose(each.id));
    }
  }

  function renderProgress(picture, position, total) {
    at("progress").max = total;
    at("progress").value = picture.done;
    const left = total - picture.done;
    at("left").textContent = left ? `${picture.done} done, ${left} left` : `all ${total} done`;
    at("name").textContent = picture.name;
    at("mark").textContent = picture.reviewed === "done" ? "✓ done" : "";
    at("place").textContent = `picture ${position + 1} of ${total}`;
  }

  /** Something to read, for some seconds; what was not saved stays until something is. */
  function say(content, { bad = false } = {}) {
    const box = at("message");
    clearTimeout(timer);
    box.hidden = !content;
    box.textContent = content;
    box.classList.toggle("bad", bad);
    if (content && !bad) timer = setTimeout(() => (box.hidden = true), MESSAGE_MS);
  }

  function saved(outcome) {
    const shown = { saved: "Saved ✓", busy: "Saving …", failed: "NOT SAVED", "": "" }[outcome];
    at("saved").textContent = shown;
    at("saved").className = { failed: "bad", busy: "busy" }[outcome] ?? "";
  }

  function hint(content) {
    at("hint").hidden = !content;
    at("hint").textContent = content;
  }

  function missing(content) {
    at("missing").hidden = !content;
    at("missing").textContent = content;
  }

  function speak(content) {
    at("spoken").textContent = content;
  }

  return {
    colour, text, words, renderBoxes, renderClasses, renderProgress, say, saved, hint, missing, speak,
  };
}

/** A list of classes to type into; gives the id of the one that is chosen, or null. */
export function chooseClass(classes, colour) {
  const dialog = at("class-dialog");
  const input = at("class-words");
  const list = at("class-found");
  let fitting = [];
  let place = 0;

  function render() {
    const typed = input.value.trim().toLowerCase();
    const starts = (each) => (each.name.toLowerCase().startsWith(typed) ? 0 : 1);
    fitting = classes
      .filter((each) => each.name.toLowerCase().includes(typed))
      .sort((a, b) => starts(a) - starts(b));
    place = Math.min(place, Math.max(0, fitting.length - 1));
    list.replaceChildren();
    for (const [number, each] of fitting.entries()) {
      const item = list.appendChild(document.createElement("li"));
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", String(number === place));
      const swatch = item.appendChild(document.createElement("span"));
      swatch.className = "swatch";
      swatch.style.borderColor = colour(each.id);
      item.append(each.name);
      item.addEventListener("click", () => dialog.close(String(each.id)));
      if (number === place) item.scrollIntoView({ block: "nearest" });
    }
  }

  function key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) place = Math.min(Math.max(place + step, 0), fitting.length - 1);
    else if (event.key === "Enter") dialog.close(fitting.length ? String(fitting[place].id) : "");
    else return;
    event.preventDefault();
    if (step) render();
  }

  return new Promise((resolve) => {
    const typed = () => {
      place = 0;
      render();
    };
    input.value = "";
    dialog.returnValue = "";
    input.addEventListener("input", typed);
    input.addEventListener("keydown", key);
    dialog.addEventListener(
      "close",
      () => {
        input.removeEventListener("input", typed);
        input.removeEventListener("keydown", key);
        resolve(dialog.returnValue ? Number(dialog.returnValue) : null);
      },
      { once: true },
    );
    render();
    dialog.showModal();
  });
}
