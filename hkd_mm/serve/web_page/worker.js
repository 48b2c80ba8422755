// Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
// Classifies, away from the thread of the page. Like the worker that reads photographs
// it is made of a blob, so that the locked policy of the page holds for its requests.

let ort;
let students;
let turn = Promise.resolve();

self.onmessage = ({data}) => {
  turn = turn.then(() => (data.pixels ? look(data) : start(data)));
};

async function start({runtime, wasm, students: given}) {
  try {
    ort = await import(runtime);
    ort.env.logLevel = 'error';
    Object.assign(ort.env.wasm, {numThreads: 1, proxy: false, wasmBinary: wasm});
    checkCanvas();
    students = [];
    for (const {model, ...student} of given) {
      const options = {executionProviders: ['wasm']};
      student.session = await ort.InferenceSession.create(model, options);
      await checkAnswer(student);
      students.push(student);
    }
    self.postMessage({kind: 'ready'});
  } catch (error) {
    self.postMessage({kind: 'failed', said: String(error.message ?? error)});
  }
}

// Some browsers change what is read back, so that pages cannot know them again.
function checkCanvas() {
  const {pen} = paper(64, 64);
  const drawn = new ImageData(64, 64);
  drawn.data.forEach((_, i) => {
    drawn.data[i] = i % 4 === 3 ? 255 : (i * 37 + (i >> 6)) & 255;
  });
  pen.putImageData(drawn, 0, 0);
  const found = pen.getImageData(0, 0, 64, 64).data;
  if (found.some((value, i) => value !== drawn.data[i])) {
    throw new Error('this browser changes the pixels that pages read (a setting ' +
      'against fingerprinting); allow them here, or take another browser');
  }
}

// A picture whose answer was computed with Python when the page was made.
async function checkAnswer(student) {
  const {size, probabilities} = student.check;
  const [high, wide] = size;
  const resize = new Resize(wide, high, student.input.size);
  const row = new Uint8ClampedArray(4 * wide);
  for (let y = 0; y < high; y++) {
    row.forEach((_, i) => {
      const x = i >> 2;
      row[i] = (7 * x + 13 * y + 29 * (i & 3) + ((x * y) >> 3)) & 255;
    });
    resize.row(row, y);
  }
  const found = await classify(student, resize.pixels);
  if (!found.every((value, i) => Math.abs(value - probabilities[i]) < 1e-3)) {
    throw new Error(`the test picture of ${student.name} is not answered as in Python; ` +
      'this browser cannot be relied on');
  }
}

async function classify({session, input, temperature}, pixels) {
  const [high, wide] = input.size;
  const area = high * wide;
  const values = new Float32Array(3 * area);
  const mean = Float32Array.from(input.mean);
  const std = Float32Array.from(input.std);
  for (let i = 0; i < values.length; i++) {
    const c = Math.floor(i / area);
    values[i] = Math.fround(pixels[3 * (i % area) + c] - mean[c]) / std[c];
  }
  const tensor = new ort.Tensor('float32', values, [1, 3, high, wide]);
  const given = await session.run({[session.inputNames[0]]: tensor});
  const logits = Array.from(given[session.outputNames[0]].data, (x) => x / temperature);
  const largest = Math.max(...logits);
  const powers = logits.map((x) => Math.exp(x - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((x) => Math.fround(x / sum));
}

async function look({id, pixels}) {
  try {
    const answers = [];
    for (const [i, student] of students.entries()) {
      const before = performance.now();
      const probabilities = await classify(student, pixels[i]);
      answers.push({probabilities, milliseconds: performance.now() - before});
    }
    self.postMessage({kind: 'answer', id, answers});
  } catch (error) {
    self.postMessage({kind: 'failed', said: String(error.message ?? error)});
  }
}
