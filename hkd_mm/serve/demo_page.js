// Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
// Hands the chosen file to Python as it is and shows what comes back.
const main = document.querySelector('main');
const drop = main.querySelector('.drop');
const input = main.querySelector('input[type=file]');
const result = main.querySelector('.result');

function refuse(text) {
  const line = document.createElement('p');
  line.className = 'refusal';
  line.setAttribute('role', 'alert');
  line.textContent = text;
  result.replaceChildren(line);
}

let asked = 0;
async function look(file) {
  if (!file) return;
  const most = Number(main.dataset.mostBytes);
  if (file.size > most) {
    refuse(`This file has ${(file.size / 1e6).toFixed(1)} MB, more than the ` +
           `${(most / 1e6).toFixed(0)} MB allowed.`);
    return;
  }
  const mine = ++asked;
  main.classList.add('busy');
  try {
    const headers = {'content-type': 'application/octet-stream'};
    const path = main.dataset.look;
    const answer = await fetch(path, {method: 'POST', headers, body: file});
    const text = await answer.text();
    if (mine !== asked) return;
    if (answer.ok) result.innerHTML = text;
    else refuse(text);
  } catch (error) {
    if (mine === asked) refuse('The server gave no answer; is it still there?');
  } finally {
    if (mine === asked) main.classList.remove('busy');
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
