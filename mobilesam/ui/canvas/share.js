// Links that hold what is on the screen, as text a person can read:
//   #v=1&example=cat.jpg&size=451x300&model=embedded&active=1&object=Cat;1e90ff;+250,100;-390,275
// Pure functions. A link may come from anybody: each field is checked, and nothing of a wrong one
// is used.

const LINK_VERSION = "1";
const MAX_LINK = 200000; // characters; 50 objects with 64 points each are about 40,000
const MAX_NAME = 80; // characters of an object's name
const MAX_TITLE = 200; // characters of a file name
const MAX_SIDE = 100000; // pixels
const MAX_SIGMA = 50; // pixels; the server takes no more
const LINK_FIELDS = ["v", "example", "photo", "size", "model", "active"];
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g;

// Text without what cannot be shown: tabs come with cells of a spreadsheet.
function oneLine(text) {
  return text.replace(CONTROL, " ");
}

// --- writing -------------------------------------------------------------------------------------

// `example`: the example's name, or null for a visitor's own photo, whose `size` and `title` are
// all that goes in. `active`: index of the selected one of `objects`, which are in wire form.
function writeLink({ example, size, title, model, objects, active }) {
  const fields = [["v", LINK_VERSION]];
  if (example != null) fields.push(["example", linkText(example, MAX_TITLE)]);
  else if (title) fields.push(["photo", linkText(title, MAX_TITLE)]);
  fields.push(["size", size.join("x")]);
  if (model) fields.push(["model", linkText(model, MAX_NAME)]);
  const written = objects.filter(({ points, box }) => points.length || box).slice(0, MAX_OBJECTS);
  const place = written.indexOf(objects[active]);
  if (place >= 0) fields.push(["active", place + 1]);
  for (const object of written) fields.push(["object", linkOf(object)]);
  return `#${fields.map(([name, text]) => `${name}=${text}`).join("&")}`;
}

// A surrogate without its other half cannot be written into an address.
function linkText(text, length) {
  const whole = [...oneLine(String(text)).replace(/\p{Surrogate}/gu, "\ufffd")].slice(0, length).join("");
  return encodeURIComponent(whole);
}

function linkNumber(number) {
  return String(Math.round(number * 100) / 100);
}

// What is as usual is left out: every point a step, the best mask at each, nothing refined.
function linkOf({ name, color, points, box, steps, choices, refine, hidden }) {
  const pieces = [linkText(name, MAX_NAME), color.slice(1).toLowerCase()];
  for (const [x, y, label] of points) pieces.push(`${label ? "+" : "-"}${linkNumber(x)},${linkNumber(y)}`);
  if (box) pieces.push(`box:${box.map(linkNumber).join(",")}`);
  if (steps.join() !== usualSteps(points, box).join()) pieces.push(`steps:${steps.join(",")}`);
  if (choices.some((choice) => choice != null)) pieces.push(`choices:${choices.map((choice) => choice ?? "best").join(",")}`);
  const { area, smooth, feather } = refine;
  if (area || smooth || feather) pieces.push(`refine:${[area, smooth, feather].map(linkNumber).join(",")}`);
  if (hidden) pieces.push("hidden");
  return pieces.join(";");
}

function usualSteps(points, box) {
  return [...(box ? [0] : []), ...points.map((_, index) => index + 1)];
}

// --- reading -------------------------------------------------------------------------------------

// null: this is no link of ours. { error }: one sentence. { state }: what `writeLink` was given.
function readLink(hash) {
  if (!/^#v=/.test(hash)) return null;
  try {
    return { state: parseLink(hash.slice(1)) };
  } catch (reason) {
    const text = reason instanceof RangeError ? reason.message : "it is damaged";
    return { error: `This link cannot be used: ${text}. Ask for a new one.` };
  }
}

function refuse(text) {
  throw new RangeError(text);
}

function parseLink(text) {
  if (text.length > MAX_LINK) refuse("it is too long");
  const { fields, objects } = splitLink(text);
  if (fields.get("v") !== LINK_VERSION) refuse("it is for another version of this page");
  const size = parseSize(fields.get("size"));
  const example = fields.has("example") ? parseText(fields.get("example"), MAX_TITLE, "the example's name") : null;
  if (example !== null && fields.has("photo")) refuse("it names two photos");
  if (objects.length > MAX_OBJECTS) refuse(`it has more than ${MAX_OBJECTS} objects`);
  const active = fields.has("active") ? parseWhole(fields.get("active"), 1, objects.length, "the number of the selected object") - 1 : null;
  return {
    example,
    size,
    title: fields.has("photo") ? parseText(fields.get("photo"), MAX_TITLE, "the photo's name") : null,
    model: fields.has("model") ? parseText(fields.get("model"), MAX_NAME, "the model's name") : null,
    objects: objects.map((object, index) => parseObject(object, size, `object ${index + 1}`)),
    active,
  };
}

function splitLink(text) {
  const fields = new Map();
  const objects = [];
  for (const piece of text.split("&")) {
    const [, name, value] = piece.match(/^([a-z]+)=([^]*)$/) || refuse("it is damaged");
    if (name === "object") objects.push(value);
    else if (!LINK_FIELDS.includes(name) || fields.has(name)) refuse("it is damaged");
    else fields.set(name, value);
  }
  return { fields, objects };
}

function parseText(text, length, what) {
  const plain = decodeURIComponent(text);
  if (!plain.trim()) refuse(`${what} is missing`);
  if ([...plain].length > length) refuse(`${what} has more than ${length} characters`);
  if (oneLine(plain) !== plain) refuse(`${what} has characters that cannot be shown`);
  return plain;
}

function parseNumber(text, what) {
  return /^\d{1,10}(\.\d{1,2})?$/.test(text) ? Number(text) : refuse(`${what} must be a plain number`);
}

function parseWhole(text, low, high, what) {
  const number = parseNumber(text, what);
  if (!Number.isInteger(number) || number < low || number > high) refuse(`${what} is out of range`);
  return number;
}

function parseSize(text) {
  const sides = (text ?? "").split("x");
  if (sides.length !== 2) refuse("the photo's size is missing");
  return sides.map((side) => parseWhole(side, 1, MAX_SIDE, "the photo's size"));
}

function parsePlaces(text, size, count, what) {
  const places = text.split(",").map((place) => parseNumber(place, what));
  if (places.length !== count) refuse(`${what} is incomplete`);
  if (places.some((place, index) => place > size[index % 2])) refuse(`${what} lies outside the photo`);
  return places;
}

function parseObject(text, size, what) {
  const [name, color, ...pieces] = text.split(";");
  if (!/^[0-9a-f]{6}$/.test(color ?? "")) refuse(`the colour of ${what} must be six hexadecimal digits`);
  const points = [];
  const rest = new Map();
  for (const piece of pieces) {
    if (/^[+-]/.test(piece)) {
      points.push([...parsePlaces(piece.slice(1), size, 2, `a point of ${what}`), piece[0] === "+" ? 1 : 0]);
    } else {
      const [, kind, value] = piece.match(/^(hidden|box:|steps:|choices:|refine:)(.*)$/) || refuse(`${what} is damaged`);
      if (rest.has(kind) || (kind === "hidden" && value)) refuse(`${what} is damaged`);
      rest.set(kind, value);
    }
  }
  if (points.length > MAX_POINTS) refuse(`${what} has more than ${MAX_POINTS} points`);
  const box = rest.has("box:") ? parseBox(rest.get("box:"), size, what) : null;
  if (!points.length && !box) refuse(`${what} has neither a point nor a box`);
  const steps = parseSteps(rest.get("steps:"), points, box, what);
  return {
    name: parseText(name, MAX_NAME, `the name of ${what}`),
    color: `#${color}`,
    hidden: rest.has("hidden"),
    points,
    box,
    steps,
    choices: parseChoices(rest.get("choices:"), steps, box, what),
    refine: parseRefine(rest.get("refine:"), what),
  };
}

function parseBox(text, size, what) {
  const box = parsePlaces(text, size, 4, `the box of ${what}`);
  return box[0] < box[2] && box[1] < box[3] ? box : refuse(`the box of ${what} is empty`);
}

function parseSteps(text, points, box, what) {
  if (text === undefined) return usualSteps(points, box);
  const steps = text.split(",").map((step) => parseWhole(step, box ? 0 : 1, points.length, `a step of ${what}`));
  const isAscending = steps.every((step, index) => index === 0 || step > steps[index - 1]);
  if (!isAscending || steps.at(-1) !== points.length) refuse(`the steps of ${what} do not fit its points`);
  return steps;
}

// A lone click has three masks to choose from, everything else four.
function parseChoices(text, steps, box, what) {
  if (text === undefined) return steps.map(() => null);
  const entries = text.split(",");
  if (entries.length !== steps.length) refuse(`the choices of ${what} do not fit its steps`);
  return entries.map((entry, index) => {
    const isLoneClick = index === 0 && steps[0] === 1 && !box;
    return entry === "best" ? null : parseWhole(entry, 0, isLoneClick ? 2 : 3, `a choice of ${what}`);
  });
}

function parseRefine(text, what) {
  const entries = (text ?? "0,0,0").split(",");
  if (entries.length !== 3) refuse(`the clean-up of ${what} is incomplete`);
  const [smooth, feather] = entries.slice(1).map((entry) => parseNumber(entry, `the clean-up of ${what}`));
  if (Math.max(smooth, feather) > MAX_SIGMA) refuse(`the clean-up of ${what} is out of range`);
  return { area: parseWhole(entries[0], 0, 1e9, `the clean-up of ${what}`), smooth, feather };
}
