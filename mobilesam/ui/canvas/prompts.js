// The prompts of the photo on show, and their history. The page owns them: the server gets the
// whole list with every request and keeps nothing.

function createPrompts(onChange) {
  let now = { points: [], box: null };
  let past = [];
  let future = [];

  function copy(state) {
    return { points: state.points.map((point) => ({ ...point })), box: state.box && [...state.box] };
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
  }

  return {
    get points() {
      return now.points;
    },
    get box() {
      return now.box;
    },
    get isEmpty() {
      return now.points.length === 0 && !now.box;
    },
    get canUndo() {
      return past.length > 0;
    },
    get canRedo() {
      return future.length > 0;
    },
    remember,
    add(positions, label) {
      const room = MAX_POINTS - now.points.length;
      if (room <= 0) return false;
      remember();
      const addedAt = performance.now();
      for (const { x, y } of positions.slice(0, room)) now.points.push({ x, y, label, addedAt });
      const name = label === 1 ? "Include" : "Exclude";
      const last = now.points[now.points.length - 1];
      return changed(
        positions.length === 1
          ? `${name} point at ${last.x}, ${last.y}.`
          : `${positions.length} ${name.toLowerCase()} points added.`,
      );
    },
    removePoint(index) {
      remember();
      now.points.splice(index, 1);
      return changed("Point removed.");
    },
    // During a drag; the drag called remember().
    movePoint(index, position) {
      if (!now.points[index]) return false; // undone during the drag
      Object.assign(now.points[index], position);
      return changed("");
    },
    setBox(box) {
      remember();
      now.box = box;
      return changed(
        box ? `Box from ${box[0]}, ${box[1]} to ${box[2]}, ${box[3]}.` : "Box removed.",
      );
    },
    // During a drag of a handle; the drag called remember().
    reshapeBox(box) {
      if (!now.box) return false; // undone during the drag
      now.box = box;
      return changed("");
    },
    undo() {
      if (!past.length) return false;
      future.push(copy(now));
      now = past.pop();
      return changed("Undone.");
    },
    redo() {
      if (!future.length) return false;
      past.push(copy(now));
      now = future.pop();
      return changed("Redone.");
    },
    clear() {
      if (now.points.length === 0 && !now.box) return false;
      remember();
      now = { points: [], box: null };
      return changed("Everything cleared.");
    },
    // A new photo: nothing of the old one can be undone into it.
    reset() {
      now = { points: [], box: null };
      past = [];
      future = [];
      onChange(null);
    },
    // What the server gets.
    toMessage() {
      return { points: now.points.map(({ x, y, label }) => [x, y, label]), box: now.box };
    },
  };
}
