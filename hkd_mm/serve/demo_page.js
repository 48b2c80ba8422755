// Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
// Hands the chosen file to Python as text and shows what comes back. Run by
// the page with `element`, `props` and `server`.
const drop = element.querySelector('.drop');
const input = element.querySelector('input[type=file]');
const result = element.querySelector('.result');

function refuse(text) {
  const line = document.createElement('p');
  line.className = 'refusal';
  line.setAttribute('role', 'alert');
  line.textContent = text;
  result.replaceChildren(line);
}

function read(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

let asked = 0;
async function look(file) {
  if (!file) return;
  if (file.size > props.most_bytes) {
    refuse(`This file has ${(file.size / 1e6).toFixed(1)} MB, more than the ` +
           `${(props.most_bytes / 1e6).toFixed(0)} MB allowed.`);
    return;
  }
  const mine = ++asked;
  element.classList.add('busy');
  try {
    const text = await read(file);
    const shown = await server.look(text.slice(text.indexOf(',') + 1));
    if (mine === asked) result.innerHTML = shown;
  } catch (error) {
    if (mine === asked) refuse('The server gave no answer; is it still there?');
  } finally {
    if (mine === asked) element.classList.remove('busy');
  }
}

input.addEventListener('change', () => {
  look(input.files[0]);
  input.value = '';
});
drop.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' || event.key === ' ') input.click();
});
for (const kind of ['dragover', 'dragleave', 'drop']) {
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle('over', kind === 'dragover');
    if (kind === 'drop') look(event.dataTransfer.files[0]);
  });
}
