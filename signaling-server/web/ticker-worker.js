// The other end of ticker.js: posts one message every `data` milliseconds.
onmessage = ({ data: intervalMs }) => setInterval(() => postMessage(null), intervalMs);
