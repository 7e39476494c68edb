// Pure functions: positions, strokes, numbers as text. Positions are {x, y}; sizes {width, height}.

const MAX_POINTS = 64; // the server takes no more
const STROKE_SAMPLES = 16; // points taken from a stroke that closes round nothing

function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

function distance(a, b) {
  return Math.hypot(a.x - b.x, a.y - b.y);
}

// The pixel a position falls into: whole numbers from 0 to side - 1.
function pixelAt(position, size) {
  return {
    x: clamp(Math.floor(position.x), 0, size.width - 1),
    y: clamp(Math.floor(position.y), 0, size.height - 1),
  };
}

// [left, top, right, bottom] of two corners in whole pixels, or null if nothing lies between them.
function boxBetween(a, b, size) {
  const box = [
    clamp(Math.round(Math.min(a.x, b.x)), 0, size.width),
    clamp(Math.round(Math.min(a.y, b.y)), 0, size.height),
    clamp(Math.round(Math.max(a.x, b.x)), 0, size.width),
    clamp(Math.round(Math.max(a.y, b.y)), 0, size.height),
  ];
  return box[2] > box[0] && box[3] > box[1] ? box : null;
}

function boundsOf(path) {
  const bounds = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity };
  for (const { x, y } of path) {
    bounds.left = Math.min(bounds.left, x);
    bounds.top = Math.min(bounds.top, y);
    bounds.right = Math.max(bounds.right, x);
    bounds.bottom = Math.max(bounds.bottom, y);
  }
  return bounds;
}

// Where along one side of a photo a window lies that shows `low` to `high` and is `length` long.
function windowAlong(low, high, length, side) {
  const size = Math.min(Math.max(length, high - low), side);
  return { start: clamp((low + high - size) / 2, 0, side - size), size };
}

// A stroke goes round something if its ends nearly meet, compared with how far it reaches.
function isClosedStroke(path) {
  if (path.length < 8) return false;
  const bounds = boundsOf(path);
  const reach = Math.hypot(bounds.right - bounds.left, bounds.bottom - bounds.top);
  const slim = Math.min(bounds.right - bounds.left, bounds.bottom - bounds.top) < 0.12 * reach;
  return !slim && distance(path[0], path[path.length - 1]) < 0.3 * reach;
}

// At most `count` positions, evenly spaced along a stroke.
function sampleStroke(path, count) {
  const lengths = [0];
  for (let i = 1; i < path.length; i += 1) {
    lengths.push(lengths[i - 1] + distance(path[i - 1], path[i]));
  }
  const total = lengths[lengths.length - 1];
  const samples = [];
  let next = 0;
  for (let i = 0; i < count; i += 1) {
    const target = (total * (i + 0.5)) / count;
    while (next < path.length - 1 && lengths[next] < target) next += 1;
    samples.push(path[next]);
  }
  return samples;
}

function percentText(share) {
  const percent = 100 * share;
  if (percent > 0 && percent < 0.1) return "<0.1 %";
  return `${percent.toFixed(percent < 10 ? 1 : 0)} %`;
}

// The model's estimate of the overlap may fall a little outside its range.
function scoreText(score) {
  return clamp(score, 0, 1).toFixed(2);
}

function countText(number) {
  return Math.round(number).toLocaleString("en-US");
}

function timeText(milliseconds) {
  return milliseconds >= 995
    ? `${(milliseconds / 1000).toFixed(1)} s`
    : `${Math.round(milliseconds)} ms`;
}

// A file's name in a sentence, without its middle where it is long.
function shortName(name) {
  const letters = [...name];
  return letters.length > 40 ? `${letters.slice(0, 24).join("")}…${letters.slice(-12).join("")}` : name;
}
