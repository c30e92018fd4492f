// The camera, one frame after the other.
import { pixelsOf } from "./pictures.js";

const WANTED = { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: "environment" };
const LONGEST = 640;
const REASONS = {
  NotAllowedError: "the camera is not allowed: the browser's settings for this page say no",
  NotFoundError: "there is no camera",
  NotReadableError: "the camera is in use by another program",
};

export class Camera {
  #stream = null;
  #video = null;

  get running() {
    return this.#stream !== null;
  }

  /** Start, and call `look` with frame after frame, waiting for it each time, until `stop`. */
  async start(look) {
    if (this.running) return;
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("the camera needs a page from https:// or from localhost");
    }
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({ video: WANTED, audio: false });
    } catch (error) {
      throw new Error(REASONS[error.name] ?? `the camera does not start (${error.message})`);
    }
    const video = document.createElement("video");
    Object.assign(video, { muted: true, playsInline: true, srcObject: this.#stream });
    this.#video = video;
    try {
      await video.play();
      while (this.running && this.#video === video) {
        if (video.videoWidth > 0) await look(this.#frame(video));
        await new Promise((resume) => requestAnimationFrame(resume));
      }
    } finally {
      if (this.#video === video) this.stop();
    }
  }

  stop() {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    if (this.#video) this.#video.srcObject = null;
    [this.#stream, this.#video] = [null, null];
  }

  #frame(video) {
    const scale = Math.min(1, LONGEST / Math.max(video.videoWidth, video.videoHeight));
    const sides = [video.videoWidth, video.videoHeight].map((side) => Math.round(side * scale));
    return pixelsOf(video, ...sides);
  }
}
