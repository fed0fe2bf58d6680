// The page of a homework.
import { begin, download, imported } from "./page.js";
import { load, save } from "./store.js";
import { element } from "./verdicts.js";

const $ = (id) => document.getElementById(id);
const task = JSON.parse($("task").textContent);
const before = load(task.name), chosen = load("settings");

$("plain").checked = Boolean(chosen.plain);
$("by-itself").checked = !chosen.waits;

const page = await begin({
  name: task.name,
  text: before.text ?? task.stub,
  targets: Object.fromEntries(task.lines.map((line) => [line.name, line.target])),
  checked: (report) => save(task.name, { earned: report.earned }),
});

$("export").addEventListener("click", () => download("lines.py", page.get()));
$("import").addEventListener("change", async ({ target }) => {
  const [file] = target.files;
  try {
    const text = file && await imported(file);
    if (file && (page.get() === task.stub || page.get() === text || confirm(`Put ${file.name} in the place of your text?`))) page.set(text);
  } catch (reason) {
    page.said(reason.message);
  }
  target.value = "";
});
$("reset").addEventListener("click", () => {
  if (confirm("Throw away your text, and begin with the empty lines again?")) { page.set(task.stub); save(task.name, { earned: 0 }); }
});

// Hints, one step at a time: the weak one first.
for (const line of task.lines.filter((line) => line.hints.length)) {
  const list = element("ol"), shown = () => list.children.length;
  const button = element("button", { type: "button" }, "");
  const name = () => {
    button.textContent = shown() < line.hints.length ? `hint ${shown() + 1} of ${line.hints.length}` : "no more hints";
    button.setAttribute("aria-label", `${button.textContent} for ${line.name}`);
    button.disabled = shown() >= line.hints.length;
  };
  const more = () => { list.append(element("li", {}, line.hints[shown()])); name(); };
  button.addEventListener("click", () => { more(); save(task.name, { hints: { ...load(task.name).hints, [line.name]: shown() } }); });
  for (let k = 0; k < Math.min(line.hints.length, before.hints?.[line.name] ?? 0); k++) more();
  name();
  $("hints").append(element("div", { class: "hint" }, element("code", {}, line.name), button, list));
}
