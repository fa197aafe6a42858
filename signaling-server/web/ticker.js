// A timer that keeps its pace in a hidden tab, where browsers slow `setInterval` down to once a
// second and later once a minute: a worker ticks instead. Used for the signaling heartbeat
// (somebody who waits in another tab must not lose the seat) and for the test pattern.

/** Calls `callback` every `intervalMs` until the returned function is called. */
export function every(intervalMs, callback) {
  try {
    const worker = new Worker("/ticker-worker.js");
    worker.onmessage = () => callback();
    worker.postMessage(intervalMs);
    return () => worker.terminate();
  } catch {
    const timer = setInterval(callback, intervalMs);
    return () => clearInterval(timer);
  }
}
