// Ties the parts together; runs once, when Gradio has put the component on the page.

const EDGE_REACH = 24; // CSS pixels: a click this near the photo means its edge

const parts = buildLayout(element);
const look = { opacity: 0.5 };
const prompts = createObjects(promptsChanged);
const view = createView(parts, prompts, look);

const facts = { modelTitle: "", modelSource: "", encodeMs: null, isStale: false };

const page = {
  ...createNotice(parts),
  tool: "include",
  tab: "segment",
  isPenNear: false,
  state: "empty",
  facts,
  get isOpening() {
    return this.state === "opening";
  },
  get model() {
    return models.name;
  },
  // Whether a click would start an object, and there is no room for one.
  get isFull() {
    return prompts.all.length >= MAX_OBJECTS && (prompts.isPreset || !prompts.current);
  },
  // What every request says.
  message() {
    const active = prompts.current?.id ?? null;
    return { objects: prompts.toWire(), active, model: models.name };
  },
  // What a download shows.
  saving() {
    const wires = prompts.all.filter((object) => prompts.maskOf(object)).map((object) => {
      const wire = wireOf(object);
      wire.choices[wire.choices.length - 1] = prompts.chosenOf(object);
      return wire;
    });
    return { objects: wires, active: prompts.current?.id ?? null, model: models.name, ...look };
  },
  setState(state) {
    this.state = state;
    parts.root.dataset.state = state;
    parts.stage.setAttribute("aria-busy", String(state === "opening" || state === "encoding"));
    hint.show();
  },
  // `share`: how much of it is done, 0 to 1. For the eye only: a screen reader would never end.
  setBusy(text, share = null) {
    parts.busy.hidden = !text;
    parts.busyText.textContent = share === null ? text : `${text} ${Math.floor(100 * share)} %`;
    if (text && share === null) this.announce(text);
  },
  revealStage() {
    bringIntoSight(parts.stage, parts.toolbar);
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
    hint.show();
  },
  setTab(name) {
    this.tab = name;
    parts.root.dataset.tab = name;
    document.body.dataset.msTab = name;
    panel.showTab(name);
    this.hideCursor();
    const isPicking = name === "everything";
    view.live.isQuiet = isPicking;
    offerTools(parts, isPicking);
    if (isPicking && this.tool !== "pan") this.setTool("include");
    everything.tabChanged(isPicking);
    showHistory();
    view.resize();
    hint.show();
    if (name !== "segment") return;
    page.candidates.show(); // hidden, they have no width
    page.objectList.reveal();
  },
  // On a small screen what is to be compared is below the photo.
  revealTab() {
    const compared = this.tab === "compare" && document.getElementById("mobilesam-compare");
    if (compared) bringIntoSight(compared.querySelector(".ms-compare-controls"), parts.stage, compared);
  },
  // The everything tab's masks under the pointer.
  hoverFound: (position) => everything.hoverAt(position),
  pick: (position) => everything.pick(position),
  onEverything: (found) => everything.onUpdate(found),
  tooManyObjects: () => page.say(`At most ${MAX_OBJECTS} objects can be had; delete one first.`, "limit"),
  newObject() {
    if (view.photo && !prompts.start()) page.tooManyObjects();
  },
  renameObject: () => page.objectList.rename(),
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
    if (!box) return page.announce("The box is empty: its corners must differ both ways.");
    if (!prompts.setBox(box)) page.tooManyObjects();
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
    const pixels = new Map(samples.map((sample) => pixelAt(sample, view.photo)).map((pixel) => [`${pixel.x},${pixel.y}`, pixel]));
    if (!prompts.add([...pixels.values()], label)) tooMany(); // each pixel once
  },
  // A drag of a point, a handle or a slider ended.
  settle() {
    if (prompts.wanting.length) link.ask();
  },
  zoom(factor, anchor) {
    if (factor) view.zoomBy(factor, anchor ? view.toStage(anchor) : undefined);
    else view.fit();
    this.announce(`Zoom ${this.zoomChanged()}.`);
  },
  // Returns the zoom in per cent.
  zoomChanged() {
    updateTouch();
    hint.place();
    return showZoom(parts, view.zoom);
  },
  open: (source) => link.open(source),
  save: (button) => link.save(button),
  // Files are to be made for these buttons; `making` says which, `done` which has arrived.
  savesChanged(buttons, making, done) {
    panel.showMaking(buttons, making);
    const news = [done, making].filter(Boolean).join(" ");
    if (news) this.announce(news);
  },
  showPicture(photo, source, keepsPrompts) {
    const now = keepsPrompts ? null : sharing.ownWork();
    const work = now && source.work?.prompts === now.prompts ? source.work : now; // changed meanwhile
    if (!keepsPrompts) keyboard.forgetCorner();
    facts.encodeMs = null;
    parts.empty.hidden = true;
    parts.root.dataset.photo = `${photo.width}x${photo.height}`;
    parts.root.dataset.title = photo.title;
    parts.root.dataset.picture = photo.id;
    parts.root.dataset.content = photo.content;
    parts.root.style.setProperty("--photo-ratio", String(clamp(photo.width / photo.height, 0.5, 2.2)));
    view.show(photo, keepsPrompts);
    view.resize();
    if (!keepsPrompts) {
      everything.pictureChanged();
      const given = sharing.objectsFor(source, photo);
      photo.hint = given.hint;
      prompts.reset(given.objects, given.active, given.isPreset, given.history);
      keeping.showing(source, work);
      keeping.offerBack();
    }
    this.zoomChanged();
  },
  encoded({ encode_ms: encodeMs, model }) {
    facts.encodeMs = encodeMs;
    models.answeredBy(model);
    panel.showStatus();
    this.announce("The photo is ready. Click on it.");
    everything.photoReady();
  },
  // A photo could not be opened.
  openingFailed: () => keeping.stays(),
  // A photo's file, or this browser's copy where it was moved or changed since it was chosen.
  readable: (file) => keeping.readable(file),
  // The one before is ready still.
  photoStays: () => everything.photoReady(),
  notEncoded: () => everything.photoFailed(),
  // Masks for revision `rev` are under way; null: none are.
  waitingFor(rev) {
    parts.root.dataset.rev = rev ?? "";
    parts.root.classList.toggle("ms-waiting", rev !== null);
  },
  // Another candidate was chosen.
  chosen(text) {
    showHistory();
    panel.showStatus();
    page.lines.show();
    results.showData();
    link.publish();
    keeping.changed();
    hint.show();
    this.announce(text);
  },
  // What the visitor has set, to be kept while the page is loaded again.
  get settings() {
    return { tab: this.tab, opacity: parts.opacity.value, search: everything.controls.chosen };
  },
  restore({ tab, opacity, search }) {
    parts.opacity.value = opacity;
    parts.opacity.dispatchEvent(new Event("input"));
    if (search) everything.controls.choose(search);
    this.setTab(tab);
  },
  get newcomer() {
    return link.newcomer;
  },
  setAside: (work) => keeping.setAside(work),
  setModel: (name) => models.set(name),
  modelsChanged: (known) => models.changed(known),
};

const models = createModelChoice(props, prompts, page, () => ({ link, results, everything, panel, sharing }));
const panel = createPanel(parts, view, prompts, page);
Object.assign(page, {
  panel,
  lines: createLines(parts, view, prompts, page),
  candidates: createCandidates(parts, view, prompts, page),
  objectList: createObjectList(parts, view, prompts, look, page),
  answeredBy: models.answeredBy,
});
const results = createResults(parts, view, prompts, page);
const sharing = createSharing(parts, view, prompts, page, props.examples || []);
const keeping = createKeeping(parts, sharing, page);
const link = createLink({ props, trigger: whenOnline(trigger, page), upload, watch }, prompts, results, page);
const everything = createEverything(parts, view, prompts, page, link);
const hint = createHint(parts, view, prompts, page);
const keyboard = attachKeyboard(parts, view, prompts, page);
view.drawEverything = everything.draw;
const gestures = attachGestures(parts, view, prompts, page);
attachFiles(parts, page);
attachCamera(parts, page);

function tooMany() {
  if (prompts.points.length >= MAX_POINTS) page.say(`At most ${MAX_POINTS} points can be set; remove one first.`, "ask");
  else page.tooManyObjects();
}

function showHistory() {
  setDisabled(parts.undo, !prompts.canUndo);
  setDisabled(parts.redo, !prompts.canRedo);
  setDisabled(parts.clear, prompts.isEmpty || page.tab === "everything");
}

// `what` is a sentence for the live region, "" during a drag, null for a new photo.
function promptsChanged(what) {
  if (what !== "") gestures.giveWay();
  showHistory();
  if (!page.isFull) page.unsay("limit");
  view.live.hover = null;
  view.redraw("marks", "mask");
  panel.showList();
  keeping.changed();
  everything.objectsChanged();
  if (what !== "") hint.show();
  if (what === "") results.showData();
  else results.show();
  if (what) page.announce(what);
  if (what !== "") results.complete(prompts.current);
  if (prompts.wanting.length) return link.ask(performance.now(), what === "");
  link.nothingToAsk(what === null);
  if (!prompts.hasAny) results.markStale(false);
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
  "new-object": () => page.newObject(),
  "remove-all": () => prompts.removeAll(),
  "zoom-in": () => page.zoom(1.25),
  "zoom-out": () => page.zoom(0.8),
  "zoom-fit": () => page.zoom(0),
  open: () => parts.file.click(),
  share: () => sharing.copy(),
  back: () => {
    keeping.goBack();
    parts.stage.focus({ preventScroll: true });
  },
};
ignorePressesOfDisabled(parts.root);
parts.root.addEventListener("click", (event) => {
  const button = event.target.closest("[data-action], [data-tool]");
  if (!button) return;
  if (button.dataset.tool) page.setTool(button.dataset.tool);
  else actions[button.dataset.action]();
});
parts.noticeClose.addEventListener("click", () => page.say(""));
// Of the compare tab, and for it.
parts.root.addEventListener("announce", ({ detail }) => page.announce(detail));
parts.root.addEventListener("offline", () => page.say(OFFLINE, "offline"));
parts.root.promptsNow = () => prompts.all.map(promptsOf);
parts.model.addEventListener("change", () => page.setModel(parts.model.value));

// A window that moves to another screen keeps its size.
function watchResolution() {
  const screen = matchMedia(`(resolution: ${window.devicePixelRatio}dppx)`);
  screen.addEventListener("change", () => (view.resize(), watchResolution()), { once: true });
}

watchWindowHeight();
watchResolution();
new ResizeObserver(() => {
  view.resize();
  hint.place();
}).observe(parts.stage);
page.setTool("include");
page.setTab("segment");
promptsChanged(null);
panel.showExamples(props.examples || []);
page.modelsChanged(props.models);
keeping.start();
