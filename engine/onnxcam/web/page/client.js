// The page's end of the line to the worker.

/** Calls to the worker, answered by promises. */
export class Client {
  #worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  #waiting = new Map();
  #next = 0;

  /** @param {(state: {progress: number | null, loaded: number, total: number}) => void} report */
  constructor(report) {
    this.#worker.onmessage = ({ data }) => {
      if ("progress" in data) return report(data);
      const { resolve, reject } = this.#waiting.get(data.id);
      this.#waiting.delete(data.id);
      if ("error" in data) reject(new Error(data.error));
      else resolve(data.answer);
    };
    this.#worker.onerror = (event) => {
      const error = new Error(event.message || "a part of the page can't be loaded");
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
    };
  }

  call(action, given, transferred = []) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, action, given }, transferred);
    });
  }
}

/**
 * `work`, done for the newest question only: while it runs, further calls wait for one more run.
 */
export function newest(work) {
  let running = null;
  let again = null;
  const start = async () => {
    running = work();
    try {
      return await running;
    } finally {
      running = null;
    }
  };
  return () => {
    if (running === null) return start();
    again ??= running
      .catch(() => {})
      .then(() => {
        again = null;
        return start();
      });
    return again;
  };
}
