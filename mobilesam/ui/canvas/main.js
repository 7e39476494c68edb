// Ties the parts together; runs once, when Gradio has put the component on the page.

const EDGE_REACH = 24; // CSS pixels: a click this near the photo means its edge

const parts = buildLayout(element);
const look = { color: "#1e90ff", opacity: 0.5 };
const masks = createMasks();
const prompts = createPrompts(promptsChanged);
const view = createView(parts, prompts, masks, look);

const facts = { modelTitle: "", modelSource: "", encodeMs: null, decodeMs: null, isStale: false };
let modelName = props.models?.standard ?? null;
let modelTimer = 0;

const page = {
  tool: "include",
  isPenNear: false,
  state: "empty",
  facts,
  get isOpening() {
    return this.state === "opening";
  },
  get promptsAreEmpty() {
    return prompts.isEmpty;
  },
  message() {
    return { ...prompts.toMessage(), model: modelName, ...look };
  },
  // What a download shows besides the prompts.
  choice() {
    return { choice: masks.index, ...look };
  },
  setState(state) {
    this.state = state;
    parts.root.dataset.state = state;
    parts.stage.setAttribute("aria-busy", String(state === "opening" || state === "encoding"));
    showHint();
  },
  setBusy(text) {
    parts.busy.hidden = !text;
    parts.busyText.textContent = text;
    if (text) this.announce(text);
  },
  revealStage() {
    const { top, bottom } = parts.stage.getBoundingClientRect();
    if (top < 0 || bottom > innerHeight) parts.toolbar.scrollIntoView({ block: "start" });
  },
  // Show a sentence over the photo. `kind` says what it is about (open, ask, save): an answer of
  // another kind leaves it there.
  say(text, kind = "") {
    parts.notice.hidden = !text;
    parts.notice.dataset.kind = kind;
    parts.noticeText.textContent = text || "";
  },
  unsay(kind) {
    if (parts.notice.dataset.kind === kind) this.say("");
  },
  // Screen readers say nothing when the text stays the same: a space makes it another one.
  announce(text) {
    const isSame = parts.live.textContent === text;
    parts.live.textContent = isSame ? `${text}\u00a0` : text;
  },
  setTool(name) {
    this.tool = name;
    for (const button of parts.tools) {
      const isChosen = button.dataset.tool === name;
      button.setAttribute("aria-checked", String(isChosen));
      button.tabIndex = isChosen ? 0 : -1;
    }
    parts.stage.dataset.tool = name;
    updateTouch();
    showHint();
  },
  penNear(isNear) {
    this.isPenNear = isNear;
    updateTouch();
  },
  hideCursor() {
    if (!view.live.cursor) return;
    view.live.cursor = null;
    keyboard.forgetCorner();
  },
  addPoint(position, label) {
    const inside = pixelAt(position, view.photo);
    if (distance(inside, position) > 2 + EDGE_REACH / view.scale) return;
    if (!prompts.add([inside], label)) tooMany();
  },
  addBox(a, b) {
    const box = boxBetween(a, b, view.photo);
    if (box) prompts.setBox(box);
  },
  // A stroke round something is its box; any other one is points along it.
  addStroke(path, label) {
    const inside = path.filter(({ x, y }) => x >= 0 && y >= 0 && x <= view.photo.width && y <= view.photo.height);
    if (!inside.length) return;
    if (label === 1 && isClosedStroke(path)) {
      const { left, top, right, bottom } = boundsOf(path);
      this.addBox({ x: left, y: top }, { x: right, y: bottom });
      return;
    }
    const isShort = path.length < 3;
    const samples = isShort ? [inside[0]] : sampleStroke(inside, Math.min(STROKE_SAMPLES, inside.length));
    if (!prompts.add(samples.map((position) => pixelAt(position, view.photo)), label)) tooMany();
  },
  // A drag of a point or a handle ended.
  settle() {
    link.ask();
  },
  zoom(factor, anchor) {
    if (factor) view.zoomBy(factor, anchor ? view.toStage(anchor) : undefined);
    else view.fit();
    this.zoomChanged();
  },
  zoomChanged() {
    parts.zoomFit.textContent = `${Math.round(view.zoom * 100)} %`;
    parts.fit.hidden = !view.isZoomed;
    updateTouch();
  },
  open: (source) => link.open(source),
  save(button) {
    link.save(button);
    button.dataset.busy = "true";
    button.setAttribute("aria-busy", "true");
    panel.showSaves();
    this.announce("Preparing the file…");
  },
  saved(button, isDone) {
    delete button.dataset.busy;
    button.removeAttribute("aria-busy");
    panel.showSaves();
    if (isDone) this.announce("Saved.");
  },
  showPicture(photo, keepsPrompts) {
    masks.clear();
    keyboard.forgetCorner();
    Object.assign(facts, { encodeMs: null, decodeMs: null });
    parts.empty.hidden = true;
    parts.root.dataset.photo = `${photo.width}x${photo.height}`;
    parts.root.dataset.title = photo.title;
    parts.root.style.setProperty("--photo-ratio", String(clamp(photo.width / photo.height, 0.5, 2.2)));
    view.show(photo);
    view.resize();
    if (!keepsPrompts) prompts.reset();
    panel.showMasks();
    this.zoomChanged();
  },
  encoded({ encode_ms: encodeMs, model }) {
    facts.encodeMs = encodeMs;
    answeredBy(model);
    panel.showStatus();
    this.announce("The photo is ready. Click on it.");
  },
  // Masks for revision `rev` are under way; null: none are.
  waitingFor(rev) {
    parts.root.dataset.rev = rev ?? "";
    parts.root.classList.toggle("ms-waiting", rev !== null);
  },
  async paint(answer, askedAt, isCurrent) {
    const alpha = await decodeMask(answer.masks[answer.best].png);
    if (!isCurrent()) return;
    masks.show(answer.masks, answer.best, alpha);
    facts.decodeMs = answer.decode_ms;
    answeredBy(answer.model);
    this.markStale(false);
    this.unsay("ask");
    view.redraw("mask");
    link.painted(answer);
    view.whenPainted(() => {
      parts.root.dataset.paintedRev = answer.rev;
      parts.root.dataset.paintMs = (performance.now() - askedAt).toFixed(1);
      parts.root.classList.remove("ms-waiting");
      performance.measure("mobilesam:click-to-mask", { start: askedAt, end: performance.now() });
      setTimeout(() => this.describe(isCurrent), 0); // the mask is what the eye waits for
    });
  },
  async describe(isCurrent) {
    if (!isCurrent()) return;
    const mask = masks.current;
    const share = mask.area / (view.photo.width * view.photo.height);
    this.announce(`Mask: ${percentText(share)} of the photo, score ${scoreText(mask.score)}.`);
    panel.showStatus();
    await masks.decodeRest();
    if (!isCurrent()) return;
    view.redraw("mask");
    panel.showMasks();
    parts.root.dataset.shownRev = parts.root.dataset.paintedRev;
  },
  // Masks of a model that is no longer chosen are greyed until the new one's are there.
  markStale(isStale) {
    facts.isStale = isStale;
    parts.root.classList.toggle("ms-stale", isStale);
  },
  modelsChanged(models) {
    if (!models) return;
    const current = models.choices.find(({ name }) => name === modelName);
    if (!current) modelName = models.standard;
    answeredBy(modelName);
    panel.showModels(models, modelName);
    panel.showStatus();
    clearTimeout(modelTimer);
    if (models.percent != null) modelTimer = setTimeout(() => link.askModels(), 2000);
  },
};

const panel = createPanel(parts, view, prompts, masks, look, page);
const link = createLink({ props, trigger, upload, watch }, page);
const keyboard = attachKeyboard(parts, view, prompts, page);
attachGestures(parts, view, prompts, page);
attachFiles(parts, page);

function answeredBy(name) {
  const choice = props.models?.choices.find((entry) => entry.name === name);
  if (choice) Object.assign(facts, { modelTitle: choice.title, modelSource: choice.source });
}

function tooMany() {
  page.say(`At most ${MAX_POINTS} points can be set; remove one first.`, "ask");
}

// `what` is a sentence for the live region, "" during a drag, null for a new photo.
function promptsChanged(what) {
  parts.undo.disabled = !prompts.canUndo;
  parts.redo.disabled = !prompts.canRedo;
  parts.clear.disabled = prompts.isEmpty;
  showHint();
  parts.root.dataset.points = JSON.stringify(prompts.toMessage().points);
  parts.root.dataset.box = JSON.stringify(prompts.box);
  if (what === null) {
    link.forget();
    page.waitingFor(null);
    panel.showPrompts();
    view.redraw("marks");
    return;
  }
  view.live.hover = null;
  view.redraw("marks");
  panel.showPrompts();
  if (what) page.announce(what);
  if (prompts.isEmpty) {
    link.forget();
    page.waitingFor(null);
    masks.clear();
    page.markStale(false);
    view.redraw("mask");
    panel.showMasks();
  } else link.ask(performance.now(), what === "");
}

function showHint() {
  const isTouch = matchMedia("(pointer: coarse)").matches;
  const click = isTouch
    ? "Tap what you want. Hold to leave a spot out."
    : "Click what you want. Drag for a box. Right-click leaves something out.";
  const tool = TOOLS.find(({ name }) => name === page.tool);
  parts.hint.textContent = page.tool === "include" ? click : tool.hint;
  const isUseful = prompts.isEmpty && page.tool !== "pan" && (page.state === "ready" || page.state === "encoding");
  parts.hint.hidden = !isUseful;
}

// One finger scrolls the page over the photo unless a tool or the zoom needs it; a pen never does.
function updateTouch() {
  const isDrawing = page.tool === "box" || page.tool === "sketch" || page.tool === "pan";
  const needsFinger = isDrawing || page.isPenNear || view.isZoomed;
  parts.stage.style.touchAction = needsFinger ? "none" : "pan-x pan-y";
}

const actions = {
  undo: () => prompts.undo(),
  redo: () => prompts.redo(),
  clear: () => prompts.clear(),
  "zoom-in": () => page.zoom(1.25),
  "zoom-out": () => page.zoom(0.8),
  "zoom-fit": () => page.zoom(0),
  fit: () => page.zoom(0),
  open: () => parts.file.click(),
};
parts.root.addEventListener("click", (event) => {
  const button = event.target.closest("[data-action], [data-tool]");
  if (!button || button.disabled) return;
  if (button.dataset.tool) page.setTool(button.dataset.tool);
  else actions[button.dataset.action]();
});
parts.noticeClose.addEventListener("click", () => {
  page.say("");
  parts.stage.focus({ preventScroll: true });
});
parts.model.addEventListener("change", () => {
  modelName = parts.model.value;
  Object.assign(facts, { encodeMs: null, decodeMs: null });
  page.markStale(masks.current !== null);
  page.modelsChanged(props.models);
  link.changeModel();
});

// The stage shows its focus ring to those who use the keyboard.
document.addEventListener("keydown", (event) => {
  if (!["Control", "Shift", "Meta", "Alt"].includes(event.key)) parts.root.classList.add("ms-keys");
}, true);
document.addEventListener("pointerdown", () => parts.root.classList.remove("ms-keys"), true);

new ResizeObserver(() => view.resize()).observe(parts.stage);
page.setTool("include");
promptsChanged(null);
panel.showExamples(props.examples || []);
page.modelsChanged(props.models);
if (props.examples?.length) link.open({ example: props.examples[0].name });
