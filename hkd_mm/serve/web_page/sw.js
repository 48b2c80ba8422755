// Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
// Keeps the site for visits without a network. VERSION and FILES, path -> SHA-256, stand
// above; a new version is fetched as a whole, and taken once no page shows the old one.

const PREFIX = `hkd_mm ${self.registration.scope} `;
const NAME = PREFIX + VERSION;
const MATCH = {ignoreSearch: true, ignoreVary: true};

async function fetched(path) {
  const answer = await fetch(path, {cache: 'no-cache'});
  const bytes = await answer.arrayBuffer();
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  const found = Array.from(digest, (one) => one.toString(16).padStart(2, '0')).join('');
  if (found !== FILES[path]) throw new Error(`${path} is not the file of this site`);
  const kind = answer.headers.get('content-type') ?? ''; // no Vary, which may match nothing
  return new Response(bytes, {headers: {'content-type': kind}});
}

async function install() {
  const cache = await caches.open(NAME);
  const missing = await Promise.all(Object.keys(FILES).map(async (path) =>
    (await cache.match(path, MATCH)) ? [] : [path]));
  await Promise.all(missing.flat().map(async (path) =>
    cache.put(path, await fetched(path))));
}

async function activate() {
  const names = await caches.keys();
  const old = names.filter((name) => name.startsWith(PREFIX) && name !== NAME);
  await Promise.all(old.map((name) => caches.delete(name)));
  await self.clients.claim();
}

async function respond(request) {
  const cache = await caches.open(NAME);
  const url = new URL(request.url);
  const home = new URL('index.html', self.registration.scope).pathname;
  const path = url.pathname === home ? './' : request;
  const known = await cache.match(path, MATCH);
  return known ?? fetch(request);
}

self.addEventListener('install', (event) => event.waitUntil(install()));
self.addEventListener('activate', (event) => event.waitUntil(activate()));
self.addEventListener('fetch', (event) => {
  const {method, url} = event.request;
  if (method === 'GET' && url.startsWith(self.registration.scope)) {
    event.respondWith(respond(event.request));
  }
});
