// The playground: any forward, any lines. A text can be shared as a link, which holds all of it.
import { begin, download } from "./page.js";
import { load } from "./store.js";

const $ = (id) => document.getElementById(id);
const examples = JSON.parse($("examples").textContent);
const chosen = load("settings");
$("plain").checked = Boolean(chosen.plain);

const bytes = (stream) => new Response(stream).arrayBuffer().then((buffer) => new Uint8Array(buffer));
const through = (data, kind) => bytes(new Blob([data]).stream().pipeThrough(kind));

async function packed(text) {
  const data = await through(text, new CompressionStream("deflate-raw"));
  return btoa(String.fromCharCode(...data)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
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

const given = await linked();
$("by-itself").checked = given === null && !chosen.waits;
$("linked").hidden = given === null;
const page = await begin({ name: "playground", store: given === null ? "playground" : "linked", text: given ?? load("playground").text ?? Object.values(examples)[0], targets: {}, trusted: given === null });

for (const name of Object.keys(examples)) $("example").append(new Option(name, name));
$("example").addEventListener("change", ({ target }) => {
  if (target.value) page.set(examples[target.value]);
  target.value = "";
});
$("export").addEventListener("click", () => download("playground.py", page.get()));
$("share").addEventListener("click", async () => {
  const address = new URL(location.href);
  address.hash = `code=${await packed(page.get())}`;
  history.replaceState(null, "", address);
  try {
    await navigator.clipboard.writeText(address.href);
    $("link").textContent = `The link is on the clipboard (${address.href.length} characters).`;
  } catch {
    $("link").textContent = "The address of this page is the link now.";
  }
});
window.addEventListener("hashchange", () => location.reload());
