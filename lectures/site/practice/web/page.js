// What the pages of homework and the playground share: an editor, a key to check with, and what comes back.
import { Engine, forget, kept } from "./engine.js";
import { create as plain } from "./plain.js";
import { light, summary, tabulate } from "./verdicts.js";
import { save } from "./store.js";

const PAUSE = 1500; // milliseconds without a key, until a text is checked by itself
const $ = (id) => document.getElementById(id);
export const settings = JSON.parse($("settings").textContent);

/** @returns the rich editor where it was built and is wanted, else a plain text area */
async function editor(options) {
  if (settings.editor && !$("plain").checked) {
    try {
      return (await import("./editor.js")).create($("editor"), options);
    } catch {
      // the text area can do all that is needed
    }
  }
  return plain($("editor"), options);
}

/**
 * Bring a page to life.
 *
 * @param name      the page's: of a homework, or "playground"
 * @param store     what its text is kept as
 * @param text      to begin with
 * @param targets   line -> the value whose adjoint it is
 * @param checked   is told of each report
 * @param trusted   false: nothing runs before a click
 */
export async function begin({ name, store = name, text, targets, checked = () => {}, trusted = true }) {
  let pause = null, allowed = trusted, first = true;
  const tape = $("tape");

  const options = { label: `Your lines of ${name}, in Python`, text, changed, check: asked };
  let page = await editor(options);
  const engine = new Engine(settings.engine, heard);

  function changed() {
    const kept = save(store, { text: page.get() });
    $("kept").textContent = kept ? "kept on this device" : "this browser keeps nothing: export your file before you leave";
    if (document.body.dataset.verdicts) document.body.dataset.verdicts = "old";
    clearTimeout(pause);
    if ($("by-itself").checked && allowed && engine.ready) pause = setTimeout(run, PAUSE);
  }

  function asked() {
    allowed = true;
    run();
  }

  async function run() {
    clearTimeout(pause);
    const text = page.get(), report = await engine.check(name, text);
    if (!report) return;
    show(report);
    document.body.dataset.verdicts = page.get() === text ? "new" : "old";
  }

  function heard(state, words) {
    $("state").textContent = state === "unavailable" ? "Python cannot be had" : words;
    $("state").dataset.state = state;
    $("unavailable").hidden = state !== "unavailable";
    if (state === "unavailable") $("why").textContent = words;
    if (state === "ready" && first && allowed && $("by-itself").checked) run();
    if (state === "ready") first = false;
  }

  function show(report) {
    if (report.stopped !== undefined) {
      const what = report.stopped ? `${report.stopped} did` : "Your file did";
      report = { status: "stopped", lines: [], message: `${what} not end within ${report.seconds} seconds, so it was stopped. Is there a loop that never ends? Your text is as it was.` };
    }
    const failed = !["ok", "blank"].includes(report.status);
    $("message").hidden = !failed && report.lines.length > 0;
    $("message").textContent = failed ? `${report.status}: ${report.message}` : report.message;
    if (report.drawing) tape.innerHTML = report.drawing; // made by our own code, which escapes what others named
    const lit = (line) => {
      light(tape, report, targets, line);
      $("route").textContent = line ? `${line.line}: ${line.text}` : "";
    };
    lit(report.lines.find((line) => line.ways?.length && !line.good) ?? null);
    if (report.lines.length) {
      tabulate($("verdicts"), report, { go: (line) => page.go(line), show: (line) => { lit(line); tape.scrollIntoView({ block: "nearest", behavior: "smooth" }); } });
      $("points").textContent = `${report.earned} of ${report.points} points`;
    }
    page.mark(marks(report));
    $("printed").hidden = !report.printed;
    $("printed").textContent = report.printed ?? "";
    $("spoken").textContent = failed ? $("message").textContent : summary(report);
    checked(report, page);
  }

  function marks(report) {
    const lines = report.lines.filter((line) => !line.good && line.verdict !== "not implemented" && line.at?.line);
    const found = lines.map((line) => ({ line: line.at.line, message: `${line.line}: ${line.text}`, kind: "error" }));
    return found.length || !report.at?.line ? found : [{ line: report.at.line, message: report.message, kind: "error" }];
  }

  $("check").addEventListener("click", asked);
  $("retry").addEventListener("click", async () => { await forget(); engine.start(); });
  $("restart").addEventListener("click", () => engine.restart());
  $("reload").addEventListener("click", () => location.reload());
  if (navigator.serviceWorker?.controller) { // later: other files than those of this page are served from now on
    navigator.serviceWorker.addEventListener("controllerchange", () => { $("updated").hidden = false; });
  }
  $("plain").addEventListener("change", async () => {
    options.text = page.get();
    save("settings", { plain: $("plain").checked });
    page = await editor(options);
    page.focus();
  });
  $("by-itself").addEventListener("change", () => save("settings", { waits: !$("by-itself").checked }));
  document.addEventListener("keydown", (e) => { // from anywhere on the page; the editors take it themselves
    if (e.key === "Enter" && (e.ctrlKey || e.metaKey) && !$("editor").contains(e.target)) { e.preventDefault(); asked(); }
  });
  window.addEventListener("storage", ({ key }) => {
    if (key?.endsWith(`:${store}`)) $("kept").textContent = "changed in another tab: reload this page to see it, or export what is here";
  });
  if (!trusted) $("spoken").textContent = "This text came with a link. Read it: it runs when you press Check.";
  await kept();
  engine.start();
  return { get: () => page.get(), set: (text) => page.set(text), go: (line) => page.go(line), check: asked };
}

/** Hand a text over as a file. */
export function download(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/x-python" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
