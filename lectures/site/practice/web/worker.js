// Runs in a Web Worker: Python (Pyodide), NumPy and the checker. Orders come as messages, answers go as messages.
//
// The worker is ended from outside when somebody's line does not end, so nothing in here watches the time.

// What a program that came with a link could do harm with: it would reach the pages' caches, the page itself, or another machine.
const POWERS = ["BroadcastChannel", "EventSource", "Notification", "RTCPeerConnection", "SharedWorker", "WebSocket", "WebSocketStream", "WebTransport", "Worker",
  "XMLHttpRequest", "caches", "close", "cookieStore", "fetch", "importScripts", "indexedDB", "navigator", "postMessage", "webkitRequestFileSystem",
  "webkitRequestFileSystemSync"];
const MOST_PRINTS = 50; // of one check: a loop that prints must not drown the page in messages

let python = null, bridge = null, prints = 0;

const post = self.postMessage.bind(self);
const tell = (kind, more = {}) => post({ kind, ...more });

/** Take away from everything in this worker what only its start needs. */
function disarm() {
  for (let place = self; place; place = Object.getPrototypeOf(place)) {
    for (const name of POWERS) if (Object.hasOwn(place, name) && !delete place[name]) Object.defineProperty(place, name, { value: undefined });
  }
}

/** Let no program in this worker have more memory than this: Python then raises MemoryError, and the page lives. */
function bound(megabytes) {
  const Unbounded = WebAssembly.Memory, most = megabytes * 16; // pages of 64 KiB
  WebAssembly.Memory = function (wanted) {
    return new Unbounded({ ...wanted, maximum: Math.min(wanted.maximum ?? most, most) });
  };
  WebAssembly.Memory.prototype = Unbounded.prototype;
}

async function bytes(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address}: ${answer.status} ${answer.statusText}`);
  return answer.arrayBuffer();
}

async function start({ pyodide, engine, megabytes }) {
  bound(megabytes);
  const program = bytes(engine);
  program.catch(() => {}); // it is awaited below, after what takes longer
  tell("loading", { what: "Python" });
  const { loadPyodide } = await import(`${pyodide}pyodide.mjs`);
  const print = (text) => { if (prints++ < MOST_PRINTS) tell("printed", { text: String(text).slice(0, 2000) }); };
  python = await loadPyodide({ indexURL: pyodide, stdout: print, stderr: print });
  tell("loading", { what: "NumPy" });
  await python.loadPackage("numpy", { messageCallback: () => {} });
  tell("loading", { what: "the checker" });
  python.unpackArchive(await program, "zip", { extractDir: "/course" });
  python.runPython("import sys, os; sys.path.insert(0, '/course'); os.chdir('/course')");
  bridge = python.pyimport("bridge");
  bridge.no_keyboard();
  disarm();
  tell("ready");
}

function check({ id, page, text, seed }) {
  prints = 0;
  const working = (line) => tell("working", { id, line });
  const found = page === "playground" ? bridge.playground(text, working, seed) : bridge.homework(`/course/homework/${page}`, text, working, seed);
  tell("checked", { id, report: JSON.parse(found) });
}

onmessage = async ({ data }) => {
  try {
    await (data.order === "start" ? start(data) : check(data));
  } catch (problem) {
    tell(data.order === "start" ? "unavailable" : "failed", { id: data.id, text: String(problem.message ?? problem).trim().slice(-2000) });
  }
};
