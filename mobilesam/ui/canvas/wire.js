// One object: how it is copied, what of it travels, how it comes back, and what a new one is called. In wire form it goes to the
// server, into links, and comes with the examples.

const NO_REFINEMENT = Object.freeze({ area: 0, smooth: 0, feather: 0 });

function copyObject(object) {
  return {
    ...object,
    points: object.points.map((point) => ({ ...point })),
    box: object.box && [...object.box],
    choices: { ...object.choices },
    refine: { ...object.refine },
  };
}

// After how many points a mask was looked at; 0 stands for the box alone. Points of one stroke
// belong together.
function stepsOf({ points, box }) {
  const ends = box ? [0] : [];
  points.forEach(({ batch }, index) => {
    if (points[index + 1]?.batch !== batch) ends.push(index + 1);
  });
  return ends;
}

// What the server, a link and an export get of an object.
function wireOf(object) {
  const steps = stepsOf(object);
  const { id, name, color, hidden, box, refine, choices } = object;
  const points = object.points.map(({ x, y, label }) => [x, y, label]);
  return { id, name, color, hidden, points, box, steps, choices: steps.map((end) => choices[end] ?? null), refine };
}

// What was asked, in a text that is the same for the same prompts.
function promptsOf(object) {
  const { points, box, steps, choices } = wireOf(object);
  return JSON.stringify([points, box, steps, choices.slice(0, -1)]);
}

// `batch` tells these points from those of other objects.
function fromWire(wire, batch) {
  const ends = wire.steps?.length ? wire.steps : wire.points.map((_, index) => index + 1);
  const points = wire.points.map(([x, y, label], index) => {
    const end = ends.find((step) => step > index) ?? wire.points.length;
    return { x, y, label, addedAt: 0, batch: `${batch}.${end}` };
  });
  const choices = {};
  ends.forEach((end, index) => {
    if (wire.choices?.[index] != null) choices[end] = wire.choices[index];
  });
  const { name, color, box } = wire;
  return { name, color, hidden: Boolean(wire.hidden), points, box, choices, refine: { ...NO_REFINEMENT, ...wire.refine } };
}

function freeColor(objects) {
  const taken = new Set(objects.map(({ color }) => color));
  const free = COLORS.find(([color]) => !taken.has(color));
  return (free || COLORS[objects.length % COLORS.length])[0];
}

// Objects of one name are one class in some files: each gets another.
function freeName(objects) {
  let number = objects.length + 1;
  while (objects.some(({ name }) => name === `Object ${number}`)) number += 1;
  return `Object ${number}`;
}

function hasPrompts({ points, box }) {
  return points.length > 0 || box !== null;
}

function lastStep(object) {
  return stepsOf(object).at(-1) ?? 0;
}

// Choices of later steps mean nothing once an earlier prompt is gone.
function forgetChoices(object, from = 0) {
  for (const end of Object.keys(object.choices)) if (Number(end) >= from) delete object.choices[end];
}
