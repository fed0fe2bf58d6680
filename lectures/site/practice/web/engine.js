// The worker as the page sees it: started, asked, and ended when something in it does not end.

const SECONDS = 10; // for one line; the slowest right line takes a fiftieth of this
const ADDRESS = new URL("worker.js", import.meta.url).href;

export class Engine {
  /**
   * @param settings  where Pyodide and our zip are, and the memory: {pyodide, engine, megabytes}
   * @param listen    called with (state, words): "loading", "ready", "busy", "stopped", "unavailable"
   */
  constructor(settings, listen) {
    const address = (name) => new URL(name, document.baseURI).href; // a worker from a blob knows no folder
    this.settings = { ...settings, pyodide: address(settings.pyodide), engine: address(settings.engine) };
    this.listen = listen;
    this.count = 0;
    this.wanted = null; // the newest order, which waits
    this.asked = null; // the order that is judged now
  }

  /** Begin to load; also again after it was unavailable. */
  start() {
    this.ready = false;
    this.listen("loading", "Python is on its way");
    // From a blob, a worker has the page's own policy: nothing in it can reach a machine that the page may not reach.
    const code = URL.createObjectURL(new Blob([`import ${JSON.stringify(ADDRESS)};`], { type: "text/javascript" }));
    this.worker = new Worker(code, { type: "module" });
    this.worker.onmessage = ({ data }) => this.hear(data);
    this.worker.onerror = (e) => { e.preventDefault(); this.broken(e.message || "the worker could not be started"); };
    this.worker.postMessage({ order: "start", ...this.settings });
  }

  /** Judge a text. The promise ends with a report, with {stopped: line}, or with null where a newer order took its place. */
  check(page, text, seed = 0) {
    return new Promise((resolve) => {
      this.wanted?.resolve(null);
      this.wanted = { id: ++this.count, page, text, seed, resolve, printed: [] };
      this.next();
    });
  }

  next() {
    if (!this.ready || this.asked || !this.wanted) return;
    this.asked = this.wanted;
    this.wanted = null;
    const { id, page, text, seed } = this.asked;
    this.worker.postMessage({ order: "check", id, page, text, seed });
    this.begin(null);
  }

  begin(line) {
    this.line = line;
    this.listen("busy", line ? `Checking ${line}` : "Checking");
    clearTimeout(this.clock);
    this.clock = setTimeout(() => this.stop(), SECONDS * 1000);
  }

  /** End what does not end; a new worker is on its way at once. */
  stop() {
    const { asked, line } = this;
    this.asked = null;
    asked?.resolve({ stopped: line ?? "", seconds: SECONDS });
    this.restart();
  }

  /** A fresh Python, whatever was done to this one. An order that it had is judged anew. */
  restart() {
    this.worker.terminate();
    clearTimeout(this.clock);
    this.wanted ??= this.asked;
    this.asked = null;
    this.start();
  }

  /** Something went wrong outside of a check: before Python was there, or after. */
  broken(text) {
    if (!this.ready) return this.fail(text);
    const asked = this.asked;
    this.asked = null;
    asked?.resolve(failure(text));
    this.restart();
  }

  fail(text) {
    this.worker.terminate();
    this.ready = false;
    this.listen("unavailable", text);
  }

  hear(said) {
    if (said.kind === "loading") this.listen("loading", `Loading ${said.what}`);
    if (said.kind === "unavailable") this.fail(said.text);
    if (said.kind === "ready") {
      this.ready = true;
      this.listen("ready", "Ready to check");
      this.next();
    }
    if (!this.asked) return;
    if (said.kind === "printed") this.asked.printed.push(said.text);
    if (said.id !== this.asked.id) return;
    if (said.kind === "working") this.begin(said.line);
    if (said.kind === "checked" || said.kind === "failed") {
      clearTimeout(this.clock);
      const asked = this.asked;
      this.asked = null;
      const report = said.kind === "checked" ? said.report : failure(said.text);
      asked.resolve({ ...report, printed: [report.printed, ...asked.printed].filter(Boolean).join("\n") });
      if (said.kind === "failed") return this.restart(); // what broke the checker may be there still
      this.listen("ready", "Ready to check");
      this.next();
    }
  }
}

const failure = (text) => ({ status: "error", message: `the checker itself failed, and Python begins anew: ${text}`, lines: [] });

/** Throw away what is kept of Pyodide: one of its files may be damaged. */
export async function forget() {
  if ("caches" in window) for (const name of await caches.keys()) if (name.startsWith("python-")) await caches.delete(name);
}

/**
 * Wait until the service worker serves this page, so that all that is fetched from now on is there without a network, too.
 *
 * @param newer  is called with a function that brings a newer build of these pages, when there is one
 */
export async function kept(newer) {
  if (!("serviceWorker" in navigator)) return;
  try {
    const old = navigator.serviceWorker.controller;
    const registration = await navigator.serviceWorker.register("sw.js");
    const reload = () => location.reload();
    const take = () => { // the controller changes, and then the page is loaded from the newer build
      navigator.serviceWorker.addEventListener("controllerchange", reload);
      registration.waiting ? registration.waiting.postMessage("take over") : reload();
    };
    const look = () => { if (registration.waiting && old) newer(take); };
    const watch = () => registration.installing?.addEventListener("statechange", look);
    look();
    watch();
    registration.addEventListener("updatefound", watch);
    if (old) { // this page is served by it until it, or another tab, asks for the newer one
      navigator.serviceWorker.addEventListener("controllerchange", () => newer(reload));
      return;
    }
    await Promise.race([
      new Promise((resolve) => navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true })),
      new Promise((resolve) => setTimeout(resolve, 5000)),
    ]);
  } catch {
    // a private window, or a server without https: everything works but the second visit without a network
  }
}
