// Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
// cv2.INTER_AREA to 8 bits, fed with one row of the photograph after another, so that
// a large one is never in memory as a whole. Numbers and the order of sums are those of
// cv2: float32 weights, float32 sums, halves to the even number.

const LEAST = 1e-3; // of a pixel; cv2 leaves smaller overlaps out
const BITS = 2048; // 1 in cv2's weights of 11 bits

function even(value) {
  const low = Math.floor(value);
  const rest = value - low;
  if (rest !== 0.5) return rest < 0.5 ? low : low + 1;
  return low % 2 ? low + 1 : low;
}

// Shares of source pixels in those of the output: arrays of target, source, weight.
function areas(side, out, scale) {
  const target = [];
  const source = [];
  const weight = [];
  const add = (to, from, share) => {
    target.push(to);
    source.push(from);
    weight.push(Math.fround(share));
  };
  for (let to = 0; to < out; to++) {
    const start = to * scale;
    const end = start + scale;
    const cell = Math.min(scale, side - start);
    const last = Math.min(Math.floor(end), side - 1);
    const first = Math.min(Math.ceil(start), last);
    if (first - start > LEAST) add(to, first - 1, (first - start) / cell);
    for (let from = first; from < last; from++) add(to, from, 1 / cell);
    if (end - last > LEAST) {
      add(to, last, Math.min(Math.min(end - last, 1), cell) / cell);
    }
  }
  return {target, source, weight};
}

// Two neighbours a pixel of the output: first, second, and their weights of 11 bits.
function neighbours(side, out, scale) {
  return Array.from({length: out}, (_, to) => {
    const index = Math.floor(to * scale);
    const offset = Math.fround(to + 1 - (index + 1) * (out / side));
    let weight = offset <= 0 ? 0 : Math.fround(offset - Math.floor(offset));
    if (index >= side - 1) weight = 0;
    const first = Math.min(index, side - 1);
    return {
      first,
      second: Math.min(first + 1, side - 1),
      upper: even(Math.fround(1 - weight) * BITS),
      lower: even(weight * BITS),
    };
  });
}

// Rows of RGBA in, in their order, by `row`; `pixels` is H x W x 3 afterwards.
class Resize {
  constructor(width, height, [high, wide]) {
    const x = 1 / (wide / width);
    const y = 1 / (high / height);
    const whole = [x, y].every((one) => Math.abs(one - Math.floor(one)) < 2.220446e-16);
    this.wide = wide;
    this.pixels = new Uint8ClampedArray(high * wide * 3);
    if (width < wide || height < high) this.enlarge(width, height, high, x, y);
    else if (whole) this.blocks(x, y);
    else this.areas(width, height, high, x, y);
  }

  // Whole factors: sums of whole numbers, divided once.
  blocks(x, y) {
    const sums = new Float64Array(this.wide * 3);
    const share = Math.fround(1 / (x * y));
    const halves = x === 2 && y === 2;
    const used = this.wide * x;
    this.row = (rgba, at) => {
      for (let from = 0, place = 0; from < used; place += 3) {
        for (const end = from + x; from < end; from++) {
          sums[place] += rgba[4 * from];
          sums[place + 1] += rgba[4 * from + 1];
          sums[place + 2] += rgba[4 * from + 2];
        }
      }
      if ((at + 1) % y) return;
      const base = ((at + 1) / y - 1) * sums.length;
      for (let i = 0; i < sums.length; i++) {
        const sum = sums[i];
        const mean = Math.fround(Math.fround(sum) * share);
        this.pixels[base + i] = halves ? (sum + 2) >> 2 : even(mean);
      }
      sums.fill(0);
    };
  }

  areas(width, height, high, x, y) {
    const across = areas(width, this.wide, x);
    const down = areas(height, high, y);
    const source = Int32Array.from(across.source, (one) => 4 * one);
    const target = Int32Array.from(across.target, (one) => 3 * one);
    const weight = Float32Array.from(across.weight);
    const line = new Float32Array(this.wide * 3);
    const sums = new Float32Array(this.wide * 3);
    let next = 0;
    this.row = (rgba, at) => {
      if (down.source[next] !== at) return;
      line.fill(0);
      for (let k = 0; k < weight.length; k++) {
        const from = source[k];
        const to = target[k];
        const share = weight[k];
        line[to] += Math.fround(rgba[from] * share);
        line[to + 1] += Math.fround(rgba[from + 1] * share);
        line[to + 2] += Math.fround(rgba[from + 2] * share);
      }
      for (; down.source[next] === at; next++) {
        const share = down.weight[next];
        for (let i = 0; i < sums.length; i++) sums[i] += Math.fround(share * line[i]);
        if (down.target[next + 1] === down.target[next]) continue;
        const base = down.target[next] * sums.length;
        for (let i = 0; i < sums.length; i++) this.pixels[base + i] = even(sums[i]);
        sums.fill(0);
      }
    };
  }

  // Any side is enlarged: cv2 takes two neighbours, in whole numbers.
  enlarge(width, height, high, x, y) {
    const across = neighbours(width, this.wide, x);
    const down = neighbours(height, high, y);
    const used = new Set(down.flatMap((one) => [one.first, one.second]));
    const last = Math.max(...used);
    const lines = new Map();
    const size = this.wide * 3;
    this.row = (rgba, at) => {
      if (!used.has(at)) return;
      const line = new Int32Array(size);
      across.forEach(({first, second, upper, lower}, to) => {
        for (let c = 0; c < 3; c++) {
          const mixed = rgba[4 * first + c] * upper + rgba[4 * second + c] * lower;
          line[3 * to + c] = mixed >> 4;
        }
      });
      lines.set(at, line);
      if (at < last) return;
      down.forEach(({first, second, upper, lower}, to) => {
        const [above, below] = [lines.get(first), lines.get(second)];
        for (let i = 0; i < size; i++) {
          const mixed = ((above[i] * upper) >> 16) + ((below[i] * lower) >> 16);
          this.pixels[to * size + i] = (mixed + 2) >> 2;
        }
      });
    };
  }
}

// What pixels are drawn on to be read back.
function paper(width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const pen = canvas.getContext('2d', {
    alpha: false, willReadFrequently: true, colorSpace: 'srgb'});
  return {canvas, pen};
}
