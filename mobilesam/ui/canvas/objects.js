// The objects of the photo on show: prompts, name, colour and masks of each, which one is active,
// and the history of it all. The page owns them: the server gets what it needs with every request
// and keeps nothing. Points, box and gestures always mean the active object.

const MAX_OBJECTS = 50; // the server takes no more
const STATES_WITH_PICTURES = 4; // of the history, back and forth
function createObjects(onChange) {
  // `isPreset`: these are an example's own objects, which the visitor has not touched yet.
  let now = { objects: [], activeId: null, isPreset: false };
  let past = [];
  let future = [];
  let model = null; // whose masks count
  let lastId = 0; // ids are never used twice
  let batches = 0;
  let refinement = NO_REFINEMENT; // what the last object got, for the next one

  function copy(state) {
    return { ...state, objects: state.objects.map(copyObject) };
  }

  function find(id) {
    return now.objects.find((object) => object.id === id) || null;
  }

  function current() {
    return find(now.activeId);
  }

  function changed(what) {
    onChange(what);
    return true;
  }

  // Remember the state before a change; gestures that move something call it once, at their start.
  function remember() {
    past.push(copy(now));
    if (past.length > 200) past.shift();
    future = [];
    now.isPreset = false;
    forgetPictures();
  }

  function forgetPictures() {
    const near = [now, ...past.slice(-STATES_WITH_PICTURES), ...future.slice(-STATES_WITH_PICTURES)];
    forgetMasks([now, ...past, ...future], near);
  }

  function create(given = {}) {
    lastId += 1;
    const object = {
      name: freeName(now.objects),
      color: freeColor(now.objects),
      hidden: false,
      points: [],
      box: null,
      choices: {},
      refine: { ...refinement },
      result: null,
      ...given,
      id: lastId,
    };
    now.objects.push(object);
    now.activeId = object.id;
    return object;
  }

  // The object that a new prompt belongs to; the first click beside an example's own objects, and
  // one with nothing chosen, starts a new one. null: there is no room.
  function forPrompts() {
    const startsNew = now.isPreset || !current();
    if (startsNew && now.objects.length >= MAX_OBJECTS) return null;
    remember();
    const object = startsNew ? create() : current();
    object.hidden = false;
    return object;
  }

  // What the mask depends on; masks of another key are not this object's any more.
  function keyOf(object) {
    return JSON.stringify([model, promptsOf(object), object.refine]);
  }

  return {
    get all() {
      return now.objects;
    },
    get current() {
      return current();
    },
    get points() {
      return current()?.points ?? [];
    },
    get box() {
      return current()?.box ?? null;
    },
    // Whether the active object has no prompt.
    get isEmpty() {
      return !current() || !hasPrompts(current());
    },
    get hasAny() {
      return now.objects.some(hasPrompts);
    },
    get isPreset() {
      return now.isPreset;
    },
    get canUndo() {
      return past.length > 0;
    },
    get canRedo() {
      return future.length > 0;
    },
    find,
    remember,

    // --- prompts of the active object ----------------------------------------------------------

    add(positions, label) {
      if (!now.isPreset && this.points.length >= MAX_POINTS) return false;
      const object = forPrompts();
      if (!object) return false;
      const addedAt = performance.now();
      batches += 1;
      const added = positions.slice(0, MAX_POINTS - object.points.length);
      for (const { x, y } of added) {
        object.points.push({ x, y, label, addedAt, batch: batches });
      }
      const name = label === 1 ? "Include" : "Exclude";
      const last = object.points.at(-1);
      const isOne = added.length === 1;
      return changed(isOne ? `${name} point at ${last.x}, ${last.y}.` : `${added.length} ${name.toLowerCase()} points added.`);
    },
    removePoint(index) {
      remember();
      current().points.splice(index, 1);
      forgetChoices(current(), index + 1);
      return changed("Point removed.");
    },
    // During a drag; the drag called remember().
    movePoint(index, position) {
      if (!this.points[index]) return false; // undone during the drag
      Object.assign(this.points[index], position);
      return changed("");
    },
    setBox(box) {
      if (!box && !current()) return false;
      const object = box ? forPrompts() : current();
      if (!object) return false;
      if (!box) remember();
      forgetChoices(current());
      current().box = box;
      return changed(box ? `Box from ${box[0]}, ${box[1]} to ${box[2]}, ${box[3]}.` : "Box removed.");
    },
    // During a drag of a handle; the drag called remember().
    reshapeBox(box) {
      if (!this.box) return false; // undone during the drag
      current().box = box;
      return changed("");
    },
    clear() {
      if (this.isEmpty) return false;
      remember();
      Object.assign(current(), { points: [], box: null, choices: {} });
      return changed(`${current().name} has no points and no box any more.`);
    },

    // --- objects -------------------------------------------------------------------------------

    // Without room nothing stays chosen: a click must not go to the object before.
    start() {
      if (now.objects.length >= MAX_OBJECTS) {
        Object.assign(now, { activeId: null, isPreset: false });
        return !changed("No object is selected.");
      }
      const object = current();
      if (object && !hasPrompts(object)) return changed(`${object.name} is still empty: click on it.`);
      remember();
      return changed(`${create().name}: click on it.`);
    },
    // An object whose candidate is to be the one of about this area, from a mask found otherwise.
    // Returns its id, or null where there is no room.
    adopt({ point: [x, y], area }) {
      if (now.objects.length >= MAX_OBJECTS) return null;
      remember();
      batches += 1;
      const points = [{ x, y, label: 1, addedAt: performance.now(), batch: batches }];
      const object = create({ points, wantedArea: area, refine: { ...NO_REFINEMENT } });
      changed(`${object.name} added.`);
      return object.id;
    },
    select(id) {
      if (!find(id) || (now.activeId === id && !now.isPreset)) return false;
      now.isPreset = false;
      now.activeId = id;
      forgetPictures();
      return changed(`${find(id).name} selected.`);
    },
    rename(id, name) {
      const text = [...oneLine(name).trim()].slice(0, MAX_NAME).join("");
      if (!find(id) || !text || find(id).name === text) return false;
      remember();
      find(id).name = text;
      return changed(`Renamed to ${text}.`);
    },
    recolor(id, color) {
      if (!find(id) || find(id).color === color) return false;
      remember();
      find(id).color = color;
      return changed("Colour changed.");
    },
    setHidden(id, hidden) {
      if (!find(id)) return false;
      remember();
      find(id).hidden = hidden;
      return changed(`${find(id).name} ${hidden ? "hidden" : "shown"}.`);
    },
    remove(id) {
      const index = now.objects.findIndex((object) => object.id === id);
      if (index < 0) return false;
      remember();
      const [gone] = now.objects.splice(index, 1);
      if (now.activeId === id) now.activeId = (now.objects[index] || now.objects[index - 1])?.id ?? null;
      return changed(`${gone.name} deleted.`);
    },
    removeAll() {
      if (!now.objects.length) return false;
      remember();
      now = { objects: [], activeId: null, isPreset: false };
      return changed("All objects deleted.");
    },
    // While a slider is dragged; its first move called remember().
    refine(refine) {
      if (!current()) return false;
      refinement = { ...refine };
      current().refine = { ...refine };
      return changed("");
    },

    // --- masks ---------------------------------------------------------------------------------

    // Candidates of another model are others: choices among them mean nothing.
    setModel(name, keepsChoices = false) {
      if (model !== null && model !== name && !keepsChoices) this.forgetChoices();
      model = name;
    },
    forgetChoices() {
      for (const { objects } of [now, ...past, ...future]) for (const object of objects) object.choices = {};
    },
    // Objects whose masks are missing or outdated, the active one first.
    get wanting() {
      const waiting = now.objects.filter((object) => {
        if (!hasPrompts(object)) return false;
        const key = keyOf(object);
        return object.result?.key !== key && object.refusedKey !== key;
      });
      return waiting.sort((one, other) => (other.id === now.activeId) - (one.id === now.activeId));
    },
    keyOf,
    // There are no masks for `key`: it is not asked again.
    setRefused(id, key) {
      const object = find(id);
      if (object) object.refusedKey = key;
    },
    // An answer's masks; `key` is what they were asked for.
    setResult(id, result) {
      const object = find(id);
      if (!object) return;
      const shown = this.indexFor(object, result.masks, result.best);
      object.result = { ...result, shown };
      if (object.wantedArea == null) return;
      object.choices[lastStep(object)] = shown;
      delete object.wantedArea;
    },
    // Which of the masks of an answer is to be seen; another count than before voids a choice.
    indexFor(object, masks, best) {
      if (object.wantedArea != null) {
        const far = masks.map(({ area }) => Math.abs(area - object.wantedArea));
        return far.indexOf(Math.min(...far));
      }
      const choice = object.choices[lastStep(object)];
      return choice != null && choice < masks.length ? choice : best;
    },
    // Index of the mask shown.
    chosenOf(object) {
      const { result } = object;
      if (!result) return 0;
      if (!this.isOutdated(object)) result.shown = this.indexFor(object, result.masks, result.best);
      return result.shown ?? result.best; // the new masks are under way: what is seen stays
    },
    maskOf(object) {
      return object?.result && hasPrompts(object) ? object.result.masks[this.chosenOf(object)] : null;
    },
    isOutdated(object) {
      return object.result?.key !== keyOf(object);
    },
    choose(index) {
      const object = current();
      if (index === this.chosenOf(object)) return;
      remember();
      if (index === object.result.best) delete object.choices[lastStep(object)];
      else object.choices[lastStep(object)] = index;
    },

    // --- history -------------------------------------------------------------------------------

    undo() {
      if (!past.length) return false;
      future.push(copy(now));
      now = past.pop();
      forgetPictures();
      return changed("Undone.");
    },
    redo() {
      if (!future.length) return false;
      past.push(copy(now));
      now = future.pop();
      forgetPictures();
      return changed("Redone.");
    },
    // All of it for a photo that is set aside, but the masks: they can be asked for again.
    history() {
      const bare = (state) => ({ ...state, objects: state.objects.map((object) => ({ ...copyObject(object), result: null })) });
      return { now: bare(now), past: past.map(bare), future: future.map(bare) };
    },
    // A new photo with these objects, in wire form: nothing of the old one can be undone into it.
    // `history`: instead, what it was set aside with.
    reset(wires = [], active = null, preset = false, history = null) {
      now = { objects: [], activeId: null, isPreset: false };
      past = [];
      future = [];
      if (history) ({ now, past, future } = history);
      else {
        const ids = wires.slice(0, MAX_OBJECTS).map((wire) => create(fromWire(wire, (batches += 1))).id);
        now.activeId = ids[active] ?? ids.at(-1) ?? null;
        now.isPreset = preset && ids.length > 0;
      }
      refinement = NO_REFINEMENT;
      onChange(null);
    },
    toWire: () => now.objects.map(wireOf),
  };
}
