// What the pages of homework and the playground share: an editor, a key to check with, and what comes back.
import { Engine, forget, kept } from "./engine.js";
import { create as plain } from "./plain.js";
import { drawing, light, summary, tabulate } from "./verdicts.js";
import { load, save } from "./store.js";

const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
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
 * @param checked   is told of each report on the text as it is now
 * @param draws     the tape comes with the report, not with the page
 * @param trusted   false: nothing runs before a click
 */
export async function begin({ name, store = name, text, targets, checked = () => {}, draws = false, trusted = true }) {
  let pause = null, allowed = trusted, first = true, own = text;
  const tape = $("tape");

  const options = { label: `Your lines of ${name}, in Python`, text, changed, check: asked };
  let page = await editor(options);
  const engine = new Engine(settings.engine, heard);

  function changed() {
    const kept = save(store, { text: own = page.get() });
    $("kept").textContent = kept ? "kept on this device" : "this browser keeps nothing: export your file before you leave";
    if (document.body.dataset.verdicts) document.body.dataset.verdicts = "old";
    clearTimeout(pause);
    if ($("by-itself").checked && allowed) pause = setTimeout(run, PAUSE);
  }

  function asked() {
    allowed = true;
    if ($("state").dataset.state === "unavailable") again();
    run();
  }

  async function run() {
    clearTimeout(pause);
    const text = page.get(), report = await engine.check(name, text);
    if (!report) return;
    show(report);
    document.body.dataset.verdicts = page.get() === text ? "new" : "old";
    if (page.get() === text && ["ok", "blank"].includes(report.status)) checked(report);
  }

  function heard(state, words) {
    $("state").textContent = state === "unavailable" ? "Python cannot be had" : words;
    $("state").dataset.state = state;
    $("unavailable").hidden = state !== "unavailable";
    if (state === "unavailable") $("why").textContent = words;
    if (state === "ready" && first && !engine.wanted && allowed && $("by-itself").checked) run();
    if (state === "ready") first = false;
  }

  function show(report) {
    if (report.stopped !== undefined) {
      const what = report.stopped ? `${report.stopped} did` : "Your file did";
      report = { status: "stopped", lines: [], message: `${what} not end within ${report.seconds} seconds, so it was stopped. Is there a loop that never ends? Your text is as it was.` };
    }
    const failed = !["ok", "blank"].includes(report.status);
    if (failed) report = { ...report, at: report.at ?? report.lines.find((line) => line.at?.line)?.at, lines: [] }; // each line would say the same
    $("message").hidden = !failed && report.lines.length > 0;
    $("message").textContent = failed ? `${report.status}: ${report.message}` : report.message;
    if (draws && report.drawing) tape.replaceChildren(...drawing(report.drawing));
    const lit = (line) => {
      light(tape, report, targets, line);
      $("route").textContent = line ? `${line.line}: ${line.text}` : "";
    };
    lit(report.lines.find((line) => line.ways?.length && !line.good) ?? null);
    if (report.lines.length) {
      tabulate($("verdicts"), report, { go: to, show: (line) => { lit(line); tape.scrollIntoView({ block: "nearest", behavior: calm ? "auto" : "smooth" }); } });
      $("points").textContent = `${report.earned} of ${report.points} points`;
    } else {
      clear();
    }
    page.mark(marks(report));
    $("printed").hidden = !report.printed;
    $("printed").textContent = report.printed ?? "";
    speak(failed ? $("message").textContent : summary(report));
  }

  /** Nothing is known of this text. */
  function clear() {
    $("verdicts").replaceChildren();
    $("points").textContent = "";
  }

  /** To where a line stands now: the text may have moved since it was judged. */
  function to({ line: name, at }) {
    const rows = page.get().split("\n"), found = rows.findIndex((row) => row.startsWith(`def ${name}(`));
    page.go(document.body.dataset.verdicts === "old" && found >= 0 ? found + 1 : at.line);
  }

  function speak(words) {
    $("spoken").textContent = "";
    setTimeout(() => { $("spoken").textContent = words; }, 50); // the same words twice are said twice
  }

  async function again() {
    await forget();
    engine.start();
  }

  function marks(report) {
    const lines = report.lines.filter((line) => !line.good && line.verdict !== "not implemented" && line.at?.line);
    const found = lines.map((line) => ({ line: line.at.line, message: `${line.line}: ${line.text}`, kind: "error" }));
    return found.length || !report.at?.line ? found : [{ line: report.at.line, message: report.message, kind: "error" }];
  }

  $("check").addEventListener("click", asked);
  $("retry").addEventListener("click", again);
  $("restart").addEventListener("click", () => engine.restart());
  document.querySelector(".skip").addEventListener("click", (e) => { // the address keeps what it holds
    e.preventDefault();
    $("main").focus();
  });
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
  window.addEventListener("storage", ({ key }) => { // written in another tab: both show the same
    const theirs = load(store).text;
    if (key?.endsWith(`:${store}`) && theirs !== undefined && theirs !== own) page.set(own = theirs);
  });
  if (!trusted) speak("This text came with a link. Read it: it runs when you press Check.");
  kept((take) => {
    $("updated").hidden = false;
    $("reload").onclick = take;
  }).then(() => engine.start());
  return { get: () => page.get(), set: (text) => { clear(); page.set(text); }, said: (words) => { $("kept").textContent = words; } };
}

/** The text of a file that is to be imported; an error with words for what is no such file. */
export async function imported(file) {
  if (file.size > 1e6) throw new Error(`${file.name} is not imported: it has more than a megabyte`);
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    if (!text.includes("\0")) return text.replaceAll("\r\n", "\n");
  } catch {
    // said below
  }
  throw new Error(`${file.name} is not imported: it is no text file in UTF-8`);
}

/** Hand a text over as a file. */
export function download(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/x-python" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
