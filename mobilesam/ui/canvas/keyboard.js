// Everything the mouse can do, from the keyboard, while the stage has the focus.

// Where Control and Z belong to what is typed.
const TEXT_FIELDS = "textarea, [contenteditable], input:not([type=range], [type=radio], [type=checkbox], [type=color], [type=file], [type=button], [type=submit], [type=reset], [type=image])";
const SIGNS_BY_PLACE = { BracketLeft: "[", BracketRight: "]", Minus: "-", Equal: "=" };

// What a key means as a shortcut. Layouts without Latin letters, such as Russian or Greek, have what the
// key's place has elsewhere. On a Latin one the letter counts wherever it is: Z and Y are swapped on a
// German keyboard. With Alt or AltGr keys give signs of their own, of any script.
function shortcutOf({ key, code, altKey }) {
  const isForeign = /^[\p{L}\p{M}\p{Nd}]+$/u.test(key) && !/[\p{ASCII}\p{Script=Latin}]/u.test(key);
  if (isForeign && !altKey) return SIGNS_BY_PLACE[code] ?? code.replace(/^(Key|Digit)/, "").toLowerCase();
  return key.length === 1 ? key.toLowerCase() : key;
}

function attachKeyboard(parts, view, prompts, page) {
  let corner = null; // the first corner of a box, after B

  function cursor() {
    if (!view.live.cursor) {
      view.live.cursor = { x: view.photo.width / 2, y: view.photo.height / 2 };
    }
    return view.live.cursor;
  }

  function move(dx, dy, isFast) {
    const place = cursor();
    const step = Math.max(1, (Math.max(view.photo.width, view.photo.height) / 100) / view.zoom);
    const length = isFast ? 5 * step : step;
    place.x = clamp(place.x + dx * length, 0, view.photo.width - 0.5);
    place.y = clamp(place.y + dy * length, 0, view.photo.height - 0.5);
    view.reveal(place);
    if (corner) view.live.band = boxBetween(corner, place, view.photo);
    view.redraw("marks");
    if (page.tab === "everything") return page.hoverFound(place);
    page.announce(`${Math.floor(place.x)}, ${Math.floor(place.y)}`);
  }

  function markCorner() {
    const place = { ...cursor() };
    if (corner) {
      const first = corner;
      forgetCorner();
      page.addBox(first, place);
      return;
    }
    corner = place;
    view.live.corner = place;
    view.redraw("marks");
    page.announce("First corner of the box. Move on and press B again; Escape stops.");
  }

  function forgetCorner() {
    corner = null;
    view.live.corner = null;
    view.live.band = null;
    view.redraw("marks");
  }

  function giveUpCorner(event) {
    forgetCorner();
    event.stopPropagation(); // what is said stays
  }

  function removeNearest() {
    if (prompts.points.length === 0) {
      if (prompts.box) prompts.setBox(null);
      return;
    }
    const place = view.live.cursor;
    let nearest = prompts.points.length - 1;
    if (place) {
      const far = prompts.points.map((point) => distance(point, place));
      nearest = far.indexOf(Math.min(...far));
    }
    prompts.removePoint(nearest);
  }

  function enter(label) {
    if (page.tab !== "everything") page.addPoint(cursor(), label);
    else if (!page.pick(cursor())) page.announce("There is no mask here.");
  }

  function selectNext(step) {
    const { all } = prompts;
    if (!all.length) return;
    const index = all.indexOf(prompts.current);
    prompts.select(all[(index + step + all.length) % all.length].id);
  }

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  // Returns whether the key meant something. What changes an object does nothing where none is seen.
  function press(event) {
    const key = shortcutOf(event);
    if (page.tab === "everything" && ["b", "Delete", "Backspace", "n", "[", "]"].includes(key)) return false;
    if (key === "F2" && page.tab !== "segment") return false; // the list is out of sight
    if (ARROWS[event.key]) move(...ARROWS[event.key], event.shiftKey);
    else if (key === "Enter") enter(event.shiftKey ? 0 : 1);
    else if (key === "b") markCorner();
    else if (key === "Escape" && corner) giveUpCorner(event);
    else if (key === "Delete" || key === "Backspace") removeNearest();
    else if (key === "+" || key === "=") page.zoom(1.25, view.live.cursor);
    else if (key === "-") page.zoom(0.8, view.live.cursor);
    else if (key === "0") page.zoom(0);
    else if (key === "n") page.newObject();
    else if (key === "[" || key === "]") selectNext(key === "]" ? 1 : -1);
    else if (key === "F2") page.renameObject();
    else if (/^[1-5]$/.test(key) && !isDisabled(parts.tools[Number(key) - 1])) page.setTool(TOOLS[Number(key) - 1].name);
    else return false;
    return true;
  }

  parts.stage.addEventListener("keydown", (event) => {
    if (event.target !== parts.stage) return; // a button on the stage
    // Many layouts have brackets with AltGr or Option only; of AltGr Windows tells as Control and Alt.
    const isBracket = event.altKey && !event.metaKey && ["[", "]"].includes(event.key);
    const isCommand = (event.ctrlKey || event.metaKey || event.altKey) && !isBracket;
    if (!view.photo || page.isOpening || isCommand) return;
    const isHeld = event.repeat && event.key === "Enter"; // one point is meant
    if (isHeld || press(event)) event.preventDefault();
  });

  // Undo and redo work from anywhere on the page but text fields.
  document.addEventListener("keydown", (event) => {
    const isText = event.target.closest?.(TEXT_FIELDS);
    if (!parts.host.isConnected || isText || !(event.ctrlKey || event.metaKey)) return;
    const key = shortcutOf(event);
    if (key !== "z" && key !== "y") return;
    event.preventDefault();
    if (key === "y" || event.shiftKey) prompts.redo();
    else prompts.undo();
  });

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !parts.root.querySelector("dialog[open]")) page.say("");
  });

  // The stage shows its focus ring to those who use the keyboard.
  document.addEventListener("keydown", (event) => {
    if (!["Control", "Shift", "Meta", "Alt"].includes(event.key)) parts.root.classList.add("ms-keys");
  }, true);
  document.addEventListener("pointerdown", () => parts.root.classList.remove("ms-keys"), true);

  return { forgetCorner };
}
