// The playground: any forward, any lines. A text can be shared as a link, which holds all of it.
import { begin, download } from "./page.js";
import { load } from "./store.js";
import { element } from "./verdicts.js";

const $ = (id) => document.getElementById(id);
const examples = JSON.parse($("examples").textContent);
const chosen = load("settings");
$("plain").checked = Boolean(chosen.plain);

const bytes = (stream) => new Response(stream).arrayBuffer().then((buffer) => new Uint8Array(buffer));
const through = (data, kind) => bytes(new Blob([data]).stream().pipeThrough(kind));

async function packed(text) {
  const data = await through(text, new CompressionStream("deflate-raw"));
  return btoa(Array.from(data, (byte) => String.fromCharCode(byte)).join("")).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

async function unpacked(code) {
  const data = Uint8Array.from(atob(code.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  return new TextDecoder("utf-8", { fatal: true }).decode(await through(data, new DecompressionStream("deflate-raw")));
}

async function linked() {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (!code) return null;
  try {
    return await unpacked(code);
  } catch {
    $("link").textContent = "This link is damaged: it holds no text that can be read.";
    return null;
  }
}

const given = await linked(), own = `linked-${location.hash.slice(-24)}`; // what is written on from this link, in this browser
const before = given === null ? load("playground").text ?? Object.values(examples)[0] : load(own).text ?? given;
$("by-itself").checked = given === null && !chosen.waits;
$("linked").hidden = given === null;
const page = await begin({ name: "playground", store: given === null ? "playground" : own, text: before, targets: {}, draws: true, trusted: given === null });

for (const name of Object.keys(examples)) $("example").append(new Option(name, name));
$("example").addEventListener("change", ({ target }) => {
  const chosen = examples[target.value], now = page.get();
  if (chosen && (Object.values(examples).includes(now) || confirm("Put the example in the place of your text?"))) page.set(chosen);
  target.value = "";
});
$("export").addEventListener("click", () => download("playground.py", page.get()));
$("share").addEventListener("click", async () => {
  const address = new URL(location.href);
  address.hash = `code=${await packed(page.get())}`;
  const link = element("a", { href: address.href }, "this text as a link");
  $("link").replaceChildren(link, ` (${address.href.length} characters)`);
  try {
    await navigator.clipboard.writeText(address.href);
    $("link").append(", which is on the clipboard now");
  } catch {
    $("link").append(": copy it from here");
  }
});
window.addEventListener("hashchange", () => { if (location.hash.startsWith("#code=")) location.reload(); });
