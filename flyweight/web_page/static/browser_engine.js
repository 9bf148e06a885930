// The model run in this browser, by onnxruntime-web in a worker.

import { pixelsOf } from "./picture.js";

const MOST_THREADS = 4;

/** How many threads: several only where the browser isolates the page from other origins. */
function threadCount() {
  if (!globalThis.crossOriginIsolated) return 1;
  const asked = Number(new URLSearchParams(location.search).get("threads"));
  const spare = Math.max(1, Math.floor((navigator.hardwareConcurrency ?? 1) / 2));
  return asked >= 1 ? Math.min(asked, 16) : Math.min(MOST_THREADS, spare);
}

/** Open the model that `config` names; throws an Error that says what is wrong. */
export async function openBrowserEngine(config, { onProgress, afresh }) {
  if (typeof WebAssembly !== "object") {
    throw new Error("This browser has no WebAssembly, with which the model runs.");
  }
  const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  const { ask, end } = conversation(worker, onProgress);
  const threads = threadCount();
  const model = new URL(config.model, document.baseURI).href;
  const runtime = new URL(config.runtime, document.baseURI).href;
  try {
    await ask("open", { model, runtime, threads, afresh });
  } catch (error) {
    end();
    throw new Error(`The model could not be opened: ${error.message}.`);
  }
  return {
    note: `ONNX Runtime in this browser, ${threads} thread${threads > 1 ? "s" : ""}`,
    privacy: "Runs in this browser: pictures never leave this device.",
    steps: { preprocess: "Resize", network: "Network", postprocess: "Boxes" },
    /** {boxes, scores, labels, milliseconds}; boxes in the pixels of the picture's canvas. */
    detect: (picture, score) => {
      const { data, width, height } = pixelsOf(picture);
      return ask("detect", { data: data.buffer, width, height, score }, [data.buffer]);
    },
    close: end,
  };
}

/** `ask(task, given, transfer)` promises the worker's answer; `end()` ends it, and all that waits. */
function conversation(worker, onProgress) {
  const waiting = new Map();
  let count = 0;
  const refuse = (reason) => {
    for (const { reject } of waiting.values()) reject(new Error(reason));
    waiting.clear();
  };
  worker.addEventListener("message", ({ data: { id, result, error, progress } }) => {
    if (progress) return onProgress(progress);
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) resolve(result);
    else reject(new Error(error));
  });
  worker.addEventListener("error", (event) => {
    event.preventDefault();
    refuse(event.message || "the page's worker did not load");
  });
  return {
    ask: (task, given, transfer = []) =>
      new Promise((resolve, reject) => {
        const id = ++count;
        waiting.set(id, { resolve, reject });
        worker.postMessage({ id, task, given }, transfer);
      }),
    end: () => {
      worker.terminate();
      refuse("it was ended");
    },
  };
}
