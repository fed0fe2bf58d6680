// Keeps what the pages fetch, so that a second visit needs no network. VERSION changes with every build, PYTHON with Pyodide's version.
const { VERSION, PYTHON, FILES, ADDRESS, INTEGRITY } = SETTINGS;
const PYTHONS = new URL(ADDRESS, self.registration.scope).href; // all that is below this address is Pyodide's
const PAGES = `pages-${VERSION}`, PYODIDE = `python-${PYTHON}`;

self.addEventListener("install", (e) => {
  e.waitUntil(caches.open(PAGES).then((cache) => cache.addAll(FILES.map((file) => new Request(file, { cache: "reload" })))));
});

// Until then a page and its worker get the files of one build, those that belong together.
self.addEventListener("message", (e) => { if (e.data === "take over") self.skipWaiting(); });

self.addEventListener("activate", (e) => {
  e.waitUntil((async () => {
    for (const name of await caches.keys()) if (/^(pages|python)-/.test(name) && ![PAGES, PYODIDE].includes(name)) await caches.delete(name);
    await self.clients.claim();
  })());
});

self.addEventListener("fetch", (e) => {
  if (e.request.method !== "GET") return;
  const address = new URL(e.request.url);
  address.search = address.hash = "";
  if (address.pathname.endsWith("/")) address.pathname += "index.html";
  const python = address.href.startsWith(PYTHONS);
  if (!python && !address.href.startsWith(self.registration.scope)) return;
  e.respondWith(found(address.href, python ? PYODIDE : PAGES, INTEGRITY[address.href.slice(PYTHONS.length)]));
});

async function found(address, name, integrity) {
  const cache = await caches.open(name);
  const kept = await cache.match(address);
  if (kept && await whole(kept.clone(), integrity)) return kept;
  const answer = await fetch(address, integrity ? { integrity, mode: "cors", credentials: "omit" } : {});
  if (answer.ok) await cache.put(address, answer.clone());
  return answer;
}

/** Is what was kept what it should be? */
async function whole(answer, integrity) {
  if (!integrity) return true;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await answer.arrayBuffer()));
  return integrity === `sha256-${btoa(String.fromCharCode(...digest))}`;
}
