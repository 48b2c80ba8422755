// Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
// A photograph as rows of upright RGBA, as hkd_mm.io.images reads it: EXIF orientation
// applied, colour profiles not, transparency over white, the first of several frames.
// Browsers differ in what they make of profiles and EXIF blocks, so they are not shown
// them: the decoder gets the pixels of a file alone, and turning is done here.

const MOST_BYTES = 20e6;
const MOST_PIXELS = 50e6;
const SHARES = {'image/webp': 0.5, progressive: 0.8}; // they take more memory
const STRIP = 2 ** 19; // pixels that are read back at once
const TILE = 8192; // pixels; canvases of phones are not wider than 16,384

class Refusal extends Error {}
const TRUNCATED = 'This file is cut off; copy it again.';

const text = (bytes) => new TextDecoder('latin1').decode(bytes); // ASCII of it is used
const starts = (bytes, word) =>
  Array.from(word).every((one, i) => bytes[i] === one.charCodeAt(0));

// The orientation in an EXIF block, 1 to 8, else in XMP, else 1.
function orientation(exif, xmp) {
  try {
    if (starts(exif, 'Exif\0\0')) exif = exif.subarray(6);
    const view = new DataView(exif.buffer, exif.byteOffset, exif.byteLength);
    const little = starts(exif, 'II');
    const first = view.getUint32(4, little);
    const count = view.getUint16(first, little);
    for (let at = first + 2; at < first + 2 + 12 * count; at += 12) {
      if (view.getUint16(at, little) !== 0x112) continue;
      const short = view.getUint16(at + 2, little) === 3;
      const tag = short ? view.getUint16(at + 8, little) : view.getUint32(at + 8, little);
      return tag >= 1 && tag <= 8 ? tag : 1;
    }
  } catch (error) { // no block, or a damaged one
    if (!(error instanceof RangeError || error instanceof TypeError)) throw error;
  }
  const found = xmp && /tiff:Orientation(?:="|>)([1-8])/.exec(text(xmp));
  return found ? Number(found[1]) : 1;
}

function jpeg(bytes) {
  const photo = {kind: 'image/jpeg', parts: []};
  const view = new DataView(bytes.buffer);
  let exif, xmp;
  let at = 0;
  const after = (place) => { // the next marker
    for (;;) {
      place = bytes.indexOf(0xff, place);
      if (place < 0 || place + 1 >= bytes.length) throw new Refusal(TRUNCATED);
      const code = bytes[place + 1];
      if (code && code !== 0xff && !(code >= 0xd0 && code <= 0xd7)) return place;
      place++;
    }
  };
  for (;;) {
    at = after(at);
    const code = bytes[at + 1];
    let end = at + 2;
    if (code !== 0xd8 && code !== 0xd9 && code !== 1) {
      if (end + 2 > bytes.length) throw new Refusal(TRUNCATED);
      end += view.getUint16(end);
    }
    if (end > bytes.length) throw new Refusal(TRUNCATED);
    const body = bytes.subarray(at + 4, end);
    if (code >= 0xc0 && code <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(code)) {
      photo.height = view.getUint16(at + 5);
      photo.width = view.getUint16(at + 7);
      photo.progressive = code % 4 === 2;
    }
    if (code === 0xe1 && starts(body, 'Exif\0\0')) exif ??= body;
    if (code === 0xe1 && starts(body, 'http://ns.adobe.com/xap/')) xmp = body;
    if (code === 0xda) end = after(end); // what is between is pixels
    const other = (code > 0xe0 && code <= 0xef && code !== 0xee) || code === 0xfe;
    if (!other) photo.parts.push(bytes.subarray(at, end));
    if (code === 0xd9) break;
    at = end;
  }
  return {...photo, orientation: orientation(exif, xmp)};
}

function png(bytes) {
  const view = new DataView(bytes.buffer);
  const photo = {kind: 'image/png', parts: [bytes.subarray(0, 8)], packed: []};
  let exif, xmp;
  for (let at = 8, end, name; name !== 'IEND'; at = end) {
    if (at + 12 > bytes.length) throw new Refusal(TRUNCATED);
    end = at + 12 + view.getUint32(at);
    if (end > bytes.length) throw new Refusal(TRUNCATED);
    name = text(bytes.subarray(at + 4, at + 8));
    const body = bytes.subarray(at + 8, end - 4);
    if (name === 'IHDR') {
      [photo.width, photo.height] = [view.getUint32(at + 8), view.getUint32(at + 12)];
      photo.deep = body[8] === 16 && body[9] === 0; // grey of 16 bits
      photo.interlaced = body[12] === 1;
    }
    if (name === 'eXIf') exif = body;
    if (name === 'iTXt' && starts(body, 'XML:com.adobe.xmp')) xmp = body;
    if (name === 'IDAT') photo.packed.push(body);
    if (['IHDR', 'PLTE', 'tRNS', 'IDAT', 'IEND'].includes(name)) {
      photo.parts.push(bytes.subarray(at, end));
    }
  }
  return {...photo, orientation: orientation(exif, xmp)};
}

function webp(bytes) {
  const view = new DataView(bytes.buffer);
  const photo = {kind: 'image/webp', parts: [bytes]};
  const last = 8 + view.getUint32(4, true);
  if (last > bytes.length) throw new Refusal(TRUNCATED);
  let exif, xmp;
  for (let at = 12; at + 8 <= last; ) {
    const name = text(bytes.subarray(at, at + 4));
    const size = view.getUint32(at + 4, true);
    const body = bytes.subarray(at + 8, at + 8 + size);
    if (name === 'VP8X') {
      photo.width = 1 + (body[4] | (body[5] << 8) | (body[6] << 16));
      photo.height = 1 + (body[7] | (body[8] << 8) | (body[9] << 16));
      body[0] &= ~0x2c; // no profile, EXIF, XMP
    } else if (name === 'VP8 ' && !photo.width) {
      photo.width = view.getUint16(at + 14, true) & 0x3fff;
      photo.height = view.getUint16(at + 16, true) & 0x3fff;
    } else if (name === 'VP8L' && !photo.width) {
      const bits = view.getUint32(at + 9, true);
      photo.width = 1 + (bits & 0x3fff);
      photo.height = 1 + ((bits >>> 14) & 0x3fff);
    }
    if (name === 'EXIF') exif = body;
    if (name === 'XMP ') xmp = body;
    if (['EXIF', 'XMP ', 'ICCP'].includes(name)) bytes.fill(0x4a, at, at + 4); // JJJJ
    at += 8 + size + (size % 2);
  }
  return {...photo, orientation: orientation(exif, xmp)};
}

function bmp(bytes) {
  const view = new DataView(bytes.buffer);
  if (bytes.length < 30) throw new Refusal(TRUNCATED);
  const old = view.getUint32(14, true) === 12;
  const width = old ? view.getUint16(18, true) : view.getInt32(18, true);
  const height = old ? view.getUint16(20, true) : Math.abs(view.getInt32(22, true));
  return {kind: 'image/bmp', parts: [bytes], width, height, orientation: 1};
}

function parsed(bytes) {
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return jpeg(bytes);
  if (starts(bytes, '\x89PNG\r\n\x1a\n')) return png(bytes);
  if (starts(bytes, 'RIFF') && starts(bytes.subarray(8), 'WEBP')) return webp(bytes);
  if (starts(bytes, 'BM')) return bmp(bytes);
  throw new Refusal(
    'This file cannot be read: it is no JPEG, PNG, WebP or BMP; save it as JPEG.');
}

// Read what a file is; refuse what is too large before it is unpacked.
async function open(file) {
  if (file.size > MOST_BYTES) {
    throw new Refusal(`This file has ${(file.size / 1e6).toFixed(1)} MB, more than the ` +
      `${MOST_BYTES / 1e6} MB allowed.`);
  }
  const photo = parsed(new Uint8Array(await file.arrayBuffer()));
  const {width, height} = photo;
  if (!(width > 0 && height > 0)) throw new Refusal('This file cannot be read.');
  const most = MOST_PIXELS * (SHARES[photo.progressive ? 'progressive' : photo.kind] ?? 1);
  if (width * height > most) {
    throw new Refusal(`This photograph has ${width} x ${height} pixels, more than the ` +
      `${most} allowed.`);
  }
  const [wide, high] = photo.orientation > 4 ? [height, width] : [width, height];
  return {...photo, wide, high};
}

// What moves stored pixels (x, y) of a photograph to their upright places.
function turned({orientation, width, height}) {
  return {
    1: [1, 0, 0, 1, 0, 0],
    2: [-1, 0, 0, 1, width, 0],
    3: [-1, 0, 0, -1, width, height],
    4: [1, 0, 0, -1, 0, height],
    5: [0, 1, 1, 0, 0, 0],
    6: [0, 1, -1, 0, height, 0],
    7: [0, -1, -1, 0, height, width],
    8: [0, -1, 1, 0, 0, width],
  }[orientation];
}

// Hand each upright row to `take(rgba, y)`; gives a small picture for people.
async function unpack(photo, take) {
  if (photo.deep) return unpackDeep(photo, take);
  let bitmap;
  try {
    const blob = new Blob(photo.parts, {type: photo.kind});
    photo.parts = null; // the bytes of the file can go
    bitmap = await createImageBitmap(blob, {
      premultiplyAlpha: 'none', colorSpaceConversion: 'none'});
  } catch {
    throw new Refusal('This file cannot be read: it is damaged, or memory is short.');
  }
  try {
    if (bitmap.width !== photo.width || bitmap.height !== photo.height) {
      throw new Refusal('This browser has not unpacked the whole photograph; make it ' +
        'smaller.');
    }
    readBack(photo, bitmap, take);
    const scale = Math.min(1, 480 / Math.max(photo.wide, photo.high));
    const small = (side) => Math.max(1, Math.round(side * scale));
    const {canvas, pen} = paper(small(photo.wide), small(photo.high));
    pen.imageSmoothingEnabled = false;
    draw(pen, canvas, bitmap, turned(photo).map((one) => one * scale));
    return canvas.transferToImageBitmap();
  } finally {
    bitmap.close();
  }
}

function draw(pen, canvas, bitmap, matrix) {
  pen.resetTransform();
  pen.fillStyle = 'white';
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.setTransform(...matrix);
  pen.drawImage(bitmap, 0, 0);
}

function readBack(photo, bitmap, take) {
  const {wide, high} = photo;
  const [a, b, c, d, e, f] = turned(photo);
  const rows = Math.max(1, Math.min(high, Math.floor(STRIP / wide)));
  const {canvas, pen} = paper(Math.min(wide, TILE), rows);
  const strip = wide > TILE ? new Uint8ClampedArray(4 * wide * rows) : null;
  pen.imageSmoothingEnabled = false;
  for (let top = 0; top < high; top += rows) {
    let pixels = strip;
    for (let left = 0; left < wide; left += TILE) {
      draw(pen, canvas, bitmap, [a, b, c, d, e - left, f - top]);
      const found = pen.getImageData(0, 0, canvas.width, rows).data;
      if (!strip) pixels = found;
      const side = 4 * Math.min(TILE, wide - left);
      for (let y = 0; strip && y < rows; y++) {
        const from = 4 * canvas.width * y;
        strip.set(found.subarray(from, from + side), 4 * (wide * y + left));
      }
    }
    for (let y = top; y < Math.min(high, top + rows); y++) {
      take(pixels.subarray(4 * wide * (y - top), 4 * wide * (y - top + 1)), y);
    }
  }
  canvas.width = 1;
}

// PNG in grey of 16 bits, which browsers round each in their own way.
async function unpackDeep(photo, take) {
  const {width, height} = photo;
  if (photo.interlaced || photo.orientation > 1) {
    throw new Refusal('Grey of 16 bits is not read where it is interlaced or turned; ' +
      'save it as JPEG.');
  }
  const stream = new Blob(photo.packed).stream();
  const reader = stream.pipeThrough(new DecompressionStream('deflate')).getReader();
  const size = 1 + 2 * width; // its filter, its values
  const rgba = new Uint8ClampedArray(4 * width).fill(255);
  let line = new Uint8Array(size);
  let above = new Uint8Array(size);
  let filled = 0;
  for (let y = 0; y < height; ) {
    const {done, value} = await reader.read().catch(() => ({done: true}));
    if (done) throw new Refusal('This file cannot be read: it is damaged.');
    for (let at = 0; at < value.length && y < height; ) {
      const part = value.subarray(at, at + size - filled);
      line.set(part, filled);
      filled += part.length;
      at += part.length;
      if (filled < size) break;
      unfilter(line, above);
      for (let x = 0; x < width; x++) {
        const deep = 256 * line[1 + 2 * x] + line[2 + 2 * x];
        rgba.fill(Math.floor((deep + 128) / 257), 4 * x, 4 * x + 3);
      }
      take(rgba, y++);
      [line, above, filled] = [above, line, 0];
    }
  }
  await reader.cancel();
  return null;
}

function unfilter(line, above) {
  const kind = line[0];
  for (let i = 1; i < line.length; i++) {
    const left = i > 2 ? line[i - 2] : 0;
    const up = above[i];
    const corner = i > 2 ? above[i - 2] : 0;
    if (kind === 1) line[i] += left;
    else if (kind === 2) line[i] += up;
    else if (kind === 3) line[i] += (left + up) >> 1;
    else if (kind === 4) {
      const guess = left + up - corner;
      const [a, b, c] = [left, up, corner].map((one) => Math.abs(guess - one));
      line[i] += a <= b && a <= c ? left : b <= c ? up : corner;
    }
  }
}

// One photograph, one worker: the page ends it, so that nothing of it stays in memory.
self.onmessage = async ({data: {file, sizes}}) => {
  try {
    const begun = performance.now();
    const photo = await open(file);
    const resizes = sizes.map((size) => new Resize(photo.wide, photo.high, size));
    const preview = await unpack(photo, (row, y) => {
      for (const one of resizes) one.row(row, y);
    });
    const reading = performance.now() - begun;
    const pixels = resizes.map((one) => one.pixels);
    self.postMessage({kind: 'read', preview, size: [photo.wide, photo.high], reading, pixels});
  } catch (error) {
    const said = error instanceof Refusal ? error.message :
      `This photograph could not be looked at (${error.message ?? error}).`;
    self.postMessage({kind: 'refusal', said});
  }
};
