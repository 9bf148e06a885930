// Runs the network beside the page, so that the page stays responsive.

import { openPredictor } from "./detector/predictor.js";

let predictor;

async function open({ model, runtime, threads, afresh }) {
  const ort = await import(new URL("ort.wasm.min.mjs", runtime).href);
  ort.env.wasm.wasmPaths = {
    mjs: new URL("ort-wasm-simd-threaded.mjs", runtime).href,
    wasm: new URL("ort-wasm-simd-threaded.wasm", runtime).href,
  };
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  // what a browser keeps of a model that was broken is of no use
  const bytes = await download(model, { cache: afresh ? "reload" : "default" });
  predictor = await openPredictor(ort, bytes, { executionProviders: ["wasm"] });
  // The first run prepares memory: it would be the slow one of the first picture.
  const [height, width] = predictor.manifest.preprocessing.size_hw;
  await predictor.predict({ data: new Uint8Array(height * width * 3), width, height });
  return { manifest: predictor.manifest };
}

async function detect({ data, width, height, score }) {
  return predictor.predict({ data: new Uint8Array(data), width, height }, { score });
}

async function download(address, options) {
  const response = await fetch(address, options);
  if (!response.ok) throw new Error(`the model is not there (${response.status})`);
  const total = Number(response.headers.get("Content-Length")) || 0;
  const parts = [];
  let loaded = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    loaded += value.length;
    postMessage({ progress: { loaded, total } });
  }
  const bytes = new Uint8Array(loaded);
  parts.reduce((at, part) => (bytes.set(part, at), at + part.length), 0);
  return bytes;
}

const tasks = { open, detect };

addEventListener("message", async ({ data: { id, task, given } }) => {
  try {
    postMessage({ id, result: await tasks[task](given) });
  } catch (error) {
    postMessage({ id, error: String(error?.message ?? error) });
  }
});
