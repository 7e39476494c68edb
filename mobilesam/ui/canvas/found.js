// What the everything tab found, as pixels of the preview: which mask is the smallest one at each
// pixel, hence what the pointer means and what is painted. Any number of masks costs the same there.

const FOUND_SIDE = 1024; // px, longest side of the preview, as on the server
const FILL_ALPHA = 140;
const GOLDEN_TURN = (Math.sqrt(5) - 1) / 2; // of the colour circle, from one hue to the next

// [red, green, blue] of mask number `index`, from 0: colours for red-green-blind eyes first, then
// hues as far from all before as can be.
function foundColor(index) {
  if (index < COLORS.length) {
    const hex = COLORS[index][0];
    return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
  }
  const turn = index - COLORS.length;
  const hue = 6 * ((turn * GOLDEN_TURN) % 1);
  const saturation = 0.85 - (turn % 3) * 0.2;
  return [5, 3, 1].map((shift) => {
    const place = (shift + hue) % 6;
    const share = clamp(Math.min(place, 4 - place), 0, 1);
    return Math.round(255 * 0.95 * (1 - saturation * share));
  });
}

function createFound() {
  const sheet = document.createElement("canvas").getContext("2d");
  let photo = { width: 1, height: 1 };
  let width = 1;
  let height = 1;
  let masks = new Map(); // id → mask
  let smallest = new Int32Array(1); // id of the smallest mask at each pixel, 0 for none
  let isMissing = false; // masks are gone: the pixels must be built anew

  function start(size) {
    photo = size;
    const scale = Math.min(1, FOUND_SIDE / Math.max(size.width, size.height));
    width = Math.max(1, Math.round(size.width * scale));
    height = Math.max(1, Math.round(size.height * scale));
    masks = new Map();
    smallest = new Int32Array(width * height);
    Object.assign(sheet.canvas, { width, height });
  }

  // A mask's pixels come as bits: what is read back from a canvas is noise in some browsers.
  async function read(mask) {
    const { columns, rows } = mask;
    const packed = new Blob([Uint8Array.from(atob(mask.bits), (letter) => letter.charCodeAt(0))]);
    const unpacked = packed.stream().pipeThrough(new DecompressionStream("deflate"));
    const bytes = new Uint8Array(await new Response(unpacked).arrayBuffer());
    const inside = new Uint8Array(columns * rows);
    for (let i = 0; i < inside.length; i += 1) inside[i] = (bytes[i >> 3] >> (7 - (i & 7))) & 1;
    const left = clamp(Math.round((mask.x / photo.width) * width), 0, width - 1);
    const top = clamp(Math.round((mask.y / photo.height) * height), 0, height - 1);
    const { bits: _bits, ...facts } = mask;
    return { ...facts, color: foundColor(mask.id - 1), left, top, inside, objectId: null, isObject: false };
  }

  function place({ id, area, left, top, columns, rows, inside }) {
    const right = Math.min(columns, width - left);
    for (let y = 0; y < Math.min(rows, height - top); y += 1) {
      const from = (top + y) * width + left;
      for (let x = 0; x < right; x += 1) {
        if (!inside[y * columns + x]) continue;
        const under = smallest[from + x];
        if (!under || masks.get(under).area > area) smallest[from + x] = id;
      }
    }
  }

  // Paint every pixel in the colour of its smallest mask, stronger where another one begins.
  function paint() {
    if (isMissing) {
      smallest.fill(0);
      for (const mask of masks.values()) place(mask);
      isMissing = false;
    }
    const image = sheet.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer); // little-endian: alpha, blue, green, red
    const shades = new Map([[0, { fill: 0, edge: 0 }]]);
    for (const { id, color: [red, green, blue], isObject } of masks.values()) {
      const tint = (blue << 16) | (green << 8) | red;
      const edge = isObject ? 0xffffffff : ((255 << 24) | tint) >>> 0;
      shades.set(id, { fill: ((FILL_ALPHA << 24) | tint) >>> 0, edge });
    }
    let shade = shades.get(0);
    let last = 0;
    for (let y = 0, i = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1, i += 1) {
        const id = smallest[i];
        if (id !== last) {
          shade = shades.get(id);
          last = id;
        }
        const isEdge = id && ((x && smallest[i - 1] !== id) || (y && smallest[i - width] !== id)
          || (x + 1 < width && smallest[i + 1] !== id) || (y + 1 < height && smallest[i + width] !== id));
        pixels[i] = isEdge ? shade.edge : shade.fill;
      }
    }
    sheet.putImageData(image, 0, 0);
  }

  return {
    sheet: sheet.canvas,
    start,
    paint,
    get size() {
      return { width, height };
    },
    get count() {
      return masks.size;
    },
    get all() {
      return [...masks.values()];
    },
    get: (id) => masks.get(id) ?? null,
    // Take new masks; those known already stay as they are. `isCurrent` says whether they are
    // still wanted when their pixels have been read.
    async add(news, isCurrent) {
      let paused = performance.now();
      for (const entry of news) {
        if (masks.has(entry.id)) continue;
        const mask = await read(entry);
        if (!isCurrent()) return;
        masks.set(mask.id, mask);
        if (!isMissing) place(mask);
        if (performance.now() - paused < 8) continue;
        await new Promise((go) => setTimeout(go, 0)); // the pointer goes first
        paused = performance.now();
        if (!isCurrent()) return;
      }
    },
    // Forget all masks but these.
    keepOnly(ids) {
      for (const id of [...masks.keys()]) {
        if (ids.has(id)) continue;
        masks.delete(id);
        isMissing = true;
      }
    },
    // The smallest mask at a position of the photo, or null.
    at({ x, y }) {
      if (!(x >= 0 && y >= 0 && x < photo.width && y < photo.height)) return null;
      const column = Math.min(width - 1, Math.floor((x / photo.width) * width));
      const row = Math.min(height - 1, Math.floor((y / photo.height) * height));
      return masks.get(smallest[row * width + column]) ?? null;
    },
    // A mask's own shape and outline, as pictures to be drawn at its place.
    picture({ columns, rows, inside, color: [red, green, blue] }) {
      const shape = new ImageData(columns, rows);
      const line = new ImageData(columns, rows);
      const fill = ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
      const shapePixels = new Uint32Array(shape.data.buffer);
      const linePixels = new Uint32Array(line.data.buffer);
      for (let y = 0, i = 0; y < rows; y += 1) {
        for (let x = 0; x < columns; x += 1, i += 1) {
          if (!inside[i]) continue;
          shapePixels[i] = fill;
          const isInner = x && y && x + 1 < columns && y + 1 < rows
            && inside[i - 1] && inside[i + 1] && inside[i - columns] && inside[i + columns];
          if (!isInner) linePixels[i] = 0xffffffff;
        }
      }
      return [shape, line].map((image) => {
        const canvas = make("canvas", { width: columns, height: rows });
        canvas.getContext("2d").putImageData(image, 0, 0);
        return canvas;
      });
    },
  };
}
