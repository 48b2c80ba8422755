// Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
// Loads the site, locks the page, and shows what the worker answers.

const SHOWN = 3; // classes named when it is not confident
const LOCK = "default-src 'none'; script-src blob: 'wasm-unsafe-eval'; worker-src blob:; " +
  "base-uri 'none'; form-action 'none'";
// what a browser fetches to install the page, from the service worker
const INSTALL = `; manifest-src ${new URL('site.webmanifest', location)}; ` +
  `img-src ${new URL('icon.png', location)}`;

const find = (selector) => document.querySelector(selector);
const inputs = document.querySelectorAll('input[type=file]');
const state = find('.state');
const percent = (share) => `${(100 * share).toFixed(1)}%`;
let site;
let worker;
let reader; // of one photograph
let readerScript;
let asked = 0;
let read;

function made(name, values = {}, ...children) {
  const element = Object.assign(document.createElement(name), values);
  element.append(...children);
  return element;
}

function refuse(said) {
  find('.result').replaceChildren();
  find('.refusals').replaceChildren(made('p', {className: 'refusal', textContent: said}));
}

async function hash(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (one) => one.toString(16).padStart(2, '0')).join('');
}

// A file of the site, checked, kept for later visits.
async function load(path, cache, onBytes) {
  const known = await cache?.match(path);
  const answer = known ?? await fetch(path, {cache: 'no-cache'});
  if (!answer.ok) throw new Error(`${path} cannot be loaded (${answer.status})`);
  const bytes = new Uint8Array(site.files[path].bytes);
  let at = 0;
  for (const reader = answer.body.getReader(); ;) {
    const {done, value} = await reader.read();
    if (done) break;
    const rest = value.subarray(0, bytes.length - at);
    bytes.set(rest, at);
    at += value.length;
    if (rest.length < value.length) break; // longer than known
    onBytes(value.length);
  }
  const right = at === bytes.length &&
    (!isSecureContext || await hash(bytes) === site.files[path].sha256);
  if (!right && known) { // damaged, or of another time
    await cache.delete(path);
    return load(path, cache, () => {});
  }
  if (!right) throw new Error(`${path} is not the file of this site; reload the page`);
  if (cache && !known) await cache.put(path, new Response(bytes));
  return bytes;
}

// Install the service worker, which keeps the rest; whether the page opens offline.
async function keep() {
  try {
    const found = await navigator.serviceWorker.register('sw.js', {updateViaCache: 'none'});
    const newest = found.installing ?? found.waiting ?? found.active;
    while (!found.active && newest.state !== 'redundant') {
      await new Promise((resolve) =>
        newest.addEventListener('statechange', resolve, {once: true}));
    }
    if (found.active && !navigator.serviceWorker.controller) {
      await new Promise((resolve) => { // it claims the page, unless that was reloaded by force
        navigator.serviceWorker.addEventListener('controllerchange', resolve, {once: true});
        setTimeout(resolve, 2000);
      });
    }
    return Boolean(found.active);
  } catch {
    return false; // private windows, and browsers without
  }
}

// From here on requests of page and workers are refused. No policy of Chromium covers
// WebRTC or navigation: the page uses neither.
function lock() {
  const content = LOCK + (navigator.serviceWorker?.controller ? INSTALL : '');
  document.head.append(made('meta', {httpEquiv: 'Content-Security-Policy', content}));
}

async function begin() {
  site = await (await fetch('site.json', {cache: 'no-cache'})).json();
  const own = new URL(import.meta.url).search.slice(1);
  if (own !== site.files['page.js'].sha256) { // kept by a cache, while the site is newer
    throw new Error('it is of an earlier version of this site; reload it');
  }
  showStudents();
  const name = `hkd_mm ${new URL('./', location)} ${site.version}`;
  const cache = isSecureContext ? await caches.open(name).catch(() => null) : null;
  const {runtime, wasm, worker: scripts} = site.parts;
  const models = site.students.map((one) => one.file);
  const paths = [runtime, wasm, ...models, ...scripts];
  const total = paths.reduce((sum, path) => sum + site.files[path].bytes, 0);
  let loaded = 0;
  const parts = await Promise.all(paths.map((path) => load(path, cache, (more) => {
    loaded += more;
    find('.loading').value = loaded / total;
    state.textContent = `Loading ${(total / 1e6).toFixed(0)} MB, once …`;
  })));
  const offline = cache !== null && await keep();
  lock();
  const script = (...texts) => URL.createObjectURL(new Blob(texts, {type: 'text/javascript'}));
  const [resize, photo, classify] = parts.slice(2 + models.length);
  readerScript = script(resize, photo);
  worker = new Worker(script(resize, classify), {type: 'module'});
  worker.onmessage = ({data}) => receive(data, offline);
  worker.onerror = (event) => receive({kind: 'failed', said: event.message ?? ''});
  const students = site.students.map((one, i) => ({...one, model: parts[2 + i]}));
  worker.postMessage({runtime: script(parts[0]), wasm: parts[1].buffer, students}, [
    parts[1].buffer, ...students.map((one) => one.model.buffer)]);
}

function receive(data, offline) {
  if (data.kind === 'ready') {
    find('.loading').hidden = true;
    state.textContent = `Ready${offline ? ', also without a network' : ''}.` +
      (isSecureContext ? '' : ' This address is not https: its files are unchecked.');
    inputs.forEach((one) => { one.disabled = false; });
    document.documentElement.dataset.state = offline ? 'offline' : 'ready';
  } else if (data.kind === 'failed') {
    fail(data.said);
  } else if (data.id === asked) {
    state.textContent = '';
    show(read, data.answers);
  }
}

function fail(said) {
  find('.loading').hidden = true;
  state.textContent = '';
  inputs.forEach((one) => { one.disabled = true; });
  refuse(`This page cannot answer: ${said || 'its worker has ended; reload it'}.`);
  document.documentElement.dataset.state = 'failed';
}

function look(file) {
  if (!file || inputs[0].disabled) return;
  find('.refusals').replaceChildren();
  state.textContent = 'Looking …';
  const id = ++asked;
  reader?.terminate(); // another photograph was chosen meanwhile
  reader = new Worker(readerScript, {type: 'module'});
  reader.onmessage = ({data}) => {
    reader.terminate();
    read = data;
    if (data.kind === 'read') return worker.postMessage({id, pixels: data.pixels});
    state.textContent = '';
    return refuse(data.said);
  };
  reader.onerror = () => {
    state.textContent = '';
    refuse('This photograph could not be looked at.');
  };
  reader.postMessage({file, sizes: site.students.map((one) => one.input.size)});
}

function showStudents() {
  find('.students').replaceChildren(...site.students.map((one) => {
    const {probability, accuracy, coverage} = one.threshold;
    const rule = probability === null ? 'never confident' :
      `confident from ${percent(probability)} on (on validation ${percent(coverage)} of ` +
      `the photographs, ${percent(accuracy)} of them right)`;
    const about = `${one.name}: ${one.architecture}; ${rule}; licence: ${one.licence}`;
    const terms = made('a', {href: one.terms, textContent: 'its terms and attribution'});
    return made('li', {}, about, ...(one.terms ? ['; ', terms] : []));
  }));
}

function figure(canvas, said) {
  canvas.role = 'img';
  canvas.ariaLabel = said;
  return made('figure', {}, canvas, made('figcaption', {className: 'small', textContent: said}));
}

function show({preview, size, reading, pixels}, answers) {
  const pictures = made('div', {className: 'pictures'});
  if (preview) {
    const canvas = made('canvas', {width: preview.width, height: preview.height});
    canvas.getContext('bitmaprenderer').transferFromImageBitmap(preview);
    pictures.append(figure(canvas, `your photograph, ${size.join(' x ')}`));
  }
  const times = `read in ${reading.toFixed(0)} ms`;
  const sides = answers.map((answer, i) => side(site.students[i], answer, times));
  site.students.forEach((one, i) => {
    const who = answers.length > 1 ? `${one.name} sees` : 'the student sees';
    pictures.append(figure(seen(pixels[i], one.input.size), `what ${who}`));
  });
  find('.result').replaceChildren(made('div', {className: 'sides'}, ...sides), pictures);
  find('.result').scrollIntoView({block: 'nearest'});
}

function seen(pixels, [height, width]) {
  const canvas = made('canvas', {className: 'seen', width, height});
  const image = new ImageData(width, height);
  image.data.forEach((_, i) => {
    image.data[i] = i % 4 === 3 ? 255 : pixels[3 * (i >> 2) + (i % 4)];
  });
  canvas.getContext('2d').putImageData(image, 0, 0);
  return canvas;
}

function side(student, {probabilities, milliseconds}, times) {
  const ranked = student.classes.map((name, i) => [name, probabilities[i]]);
  ranked.sort((a, b) => b[1] - a[1]); // the first of equals comes first
  const {probability} = student.threshold;
  const confident = probability !== null && ranked[0][1] >= Math.fround(probability);
  const named = ranked.slice(0, confident ? 1 : SHOWN).map(([name, p]) => `${name} ${percent(p)}`);
  const verdict = (confident ? '' : 'Not confident: ') + named.join(', ');
  const facts = `${(student.parameters / 1e6).toFixed(2)} M weights, ` +
    `${(site.files[student.file].bytes / 1e6).toFixed(1)} MB, ` +
    `answered in ${milliseconds.toFixed(1)} ms, ${times}`;
  const rows = ranked.map(([name, p]) => {
    const bar = made('div', {className: 'bar'});
    bar.style.width = percent(p);
    return made('tr', {}, made('th', {scope: 'row', textContent: name}),
      made('td', {ariaHidden: 'true'}, bar), made('td', {textContent: percent(p)}));
  });
  const caption = made('caption', {className: 'hint', textContent: `Classes of ${student.name}`});
  const table = made('table', {}, caption, made('tbody', {}, ...rows));
  const found = made('section', {className: confident ? 'confident' : 'unconfident'},
    made('h2', {textContent: student.name}), made('p', {className: 'verdict', textContent: verdict}),
    made('p', {className: 'small', textContent: facts}), table);
  found.dataset.probabilities = JSON.stringify(Array.from(probabilities));
  return found;
}

inputs.forEach((input) => input.addEventListener('change', () => {
  look(input.files[0]);
  input.value = '';
}));
for (const kind of ['dragover', 'dragleave', 'drop']) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    find('.drop').classList.toggle('over', kind === 'dragover');
    if (kind === 'drop') look(event.dataTransfer.files[0]);
  });
}
document.addEventListener('paste', (event) => look(event.clipboardData.files[0]));
begin().catch((error) => fail(error.message));
