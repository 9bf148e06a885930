// The camera, and a loop that looks at its newest frame.

const REASONS = {
  NotAllowedError: "The camera is blocked. Allow it for this page in the browser's address bar.",
  NotFoundError: "No camera was found.",
  OverconstrainedError: "No camera was found.",
  NotReadableError: "The camera is used by another program.",
};

/** Show the camera in `video`; returns a function that stops it. Throws an Error that says why not. */
export async function startCamera(video) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error("Browsers open the camera on secure pages only (https, or localhost).");
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: { ideal: "environment" }, width: { ideal: 1280 }, height: { ideal: 720 } },
      audio: false,
    });
    video.srcObject = stream;
    await video.play();
  } catch (error) {
    stream?.getTracks().forEach((track) => track.stop());
    throw new Error(REASONS[error.name] ?? `The camera did not start: ${error.message}`);
  }
  return {
    /** Calls `gone` when the camera is unplugged or taken away. */
    onEnd: (gone) => stream.getVideoTracks()[0].addEventListener("ended", gone),
    stop: () => {
      stream.getTracks().forEach((track) => track.stop());
      video.srcObject = null;
    },
  };
}

/**
 * Await `look()` again and again while `running()`, each time for a new frame.
 *
 * One frame is looked at, then the newest one: those in between are dropped, none waits.
 */
export async function eachFrame(video, look, running) {
  while (running()) {
    await nextFrame(video);
    if (running()) await look();
  }
}

function nextFrame(video) {
  return new Promise((resolve) => {
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(resolve);
    else requestAnimationFrame(resolve);
    setTimeout(resolve, 500); // a camera that was stopped gives none
  });
}
