// The everything tab: what to search for, how far the search is, and the masks it has found, on
// the photo and in a table. Hovering, sorting and choosing are the page's own; only a search is not.

const QUEUE_TOLD_MS = 1500; // then the visitor is told that others search before him
const TURN_WAIT_MS = 60000; // without a word a search is asked for again: it may wait behind others
const SEARCH_WAIT_MS = 20000; // the same, once it has begun
const WAITING = "Waiting for the photo…";
const OBJECT_NOW = "It is an object now; the Segment tab has it.";
const OBJECT_NO_MORE = "It is no object any more.";
const NOTHING_FOUND = "Nothing was found: lower the thresholds and search again.";
const FEW_MASKS = 5; // with fewer the visitor is told how to get more

function createEverything(parts, view, prompts, page, link) {
  const found = createFound();
  const controls = createFoundControls(view);
  const table = createFoundTable({ light: (mask) => light(mask, false), choose: adopt });
  const start = make("button", { type: "button", class: "ms-button ms-primary ms-found-start", on: { click: () => begin() } }, "Find everything");
  const cancel = make("button", { type: "button", class: "ms-button ms-found-cancel", hidden: true, on: { click: () => end("Cancelled") } }, "Cancel");
  const bar = make("i");
  const progress = make("div", { class: "ms-found-progress", role: "progressbar", "aria-label": "Search", "aria-valuemin": "0", "aria-valuemax": "100" }, bar);
  const status = make("p", { class: "ms-found-status" });
  const countAside = make("span", { class: "ms-aside" });
  const tagText = make("span");
  const tagColor = make("i");
  const tagButton = make("button", { type: "button", on: { click: pressTag } });
  const tag = make("div", { class: "ms-tag", hidden: true }, tagColor, tagText, tagButton);
  let counter = 0;
  let search = null; // { token, options, isAsked, isHeard } of the one that goes on
  let reading = Promise.resolve(); // updates are read one after the other
  let epoch = 0; // grows when what was found before means nothing any more
  let isSearched = false; // whether a search has ended for this photo
  let isThrough = false; // and was not cut short
  let isShown = false;
  let lit = null; // the mask shown alone
  let pictures = []; // its shape and its outline
  let isPinned = false; // by a finger's tap: it stays when the finger leaves
  let told = null; // the mask that has become an object or is none any more
  let model = null;
  let queueTimer = 0;
  const giveUp = () => end("The server does not answer; please try again.");
  const turn = createRetry(TURN_WAIT_MS, 3, giveUp);
  const silence = createRetry(SEARCH_WAIT_MS, 5, giveUp);

  parts.panels.everything.replaceChildren(
    make("section", {}, make("h2", {}, "Find everything"), controls.node,
      make("div", { class: "ms-found-run" }, start, cancel), progress, status),
    make("section", {}, make("h2", {}, "Masks", countAside), table.box),
  );
  parts.stage.append(tag);

  // --- searching -------------------------------------------------------------------------------

  function begin() {
    if (!view.photo) return say("Open a photo first.");
    epoch += 1;
    search = { token: ++counter, options: null, isAsked: false, isHeard: false };
    found.start(view.photo);
    isSearched = isThrough = false;
    light(null);
    showAll();
    showRun("Searching…", 0);
    page.announce("Searching for everything…");
    ask();
  }

  // Send the search, or wait for the photo: `photoReady` comes back here.
  function ask() {
    if (page.state === "failed") {
      search.isAsked = false; // `photoReady` comes back here, or `photoFailed`
      link.encode();
    }
    const patience = search.isHeard ? silence : turn;
    if (page.state !== "ready" && search.isAsked) return patience.start(ask); // another photo may come, or not
    if (page.state !== "ready") return showRun(WAITING, 0);
    search.isAsked = true;
    search.options ??= controls.options(); // for the photo that is searched, which may have come later
    link.request("start_everything", { everything: { token: search.token, ...search.options } });
    patience.start(ask);
    clearTimeout(queueTimer);
    queueTimer = setTimeout(tellQueue, QUEUE_TOLD_MS);
  }

  function stopWaiting() {
    link.heard("start_everything");
    turn.stop();
    silence.stop();
  }

  function tellQueue() {
    if (search && !search.isHeard) status.textContent = whyWaiting("Others are searching; yours comes next…");
  }

  // End the search here and on the server; what was found stays.
  function end(text) {
    if (search?.isAsked) link.request("stop_everything", { everything: { token: search.token } });
    finish(text);
  }

  function finish(text) {
    stopWaiting();
    const hadFocus = document.activeElement === cancel;
    if (document.activeElement === tagButton) parts.stage.focus({ preventScroll: true });
    search = null;
    isSearched = true;
    const press = matchMedia("(pointer: coarse)").matches ? "Tap" : "Click";
    const advice = text === "Done" && found.count < FEW_MASKS ? " Lower the thresholds for more." : "";
    const lead = text.endsWith(".") ? text : `${text}:`;
    const whole = found.count ? `${lead} ${masksText(found.count)}. ${press} a mask to make it an object.${advice}` : text;
    showRun(whole, 0);
    if (hadFocus) start.focus();
    page.announce(whole);
    showAll();
  }

  function onUpdate(value) {
    if (!value || !search || value.token !== search.token) return;
    stopWaiting();
    silence.start(ask);
    search.isHeard = true;
    if (value.state === "encode") {
      search.isAsked = false;
      return link.encode();
    }
    if (value.state === "lost") {
      search.isAsked = false;
      return link.recover();
    }
    const mine = epoch;
    reading = reading.then(() => take(value, () => epoch === mine)).catch(() => {
      if (epoch === mine && search) end("The masks could not be read; please search again.");
    });
  }

  async function take(value, isCurrent) {
    if (!isCurrent()) return;
    const isLast = value.state !== "running";
    if (isLast && value.masks.length) found.keepOnly(new Set(value.masks.map(({ id }) => id)));
    else if (isLast && value.state === "done") found.keepOnly(new Set());
    // With masks missing in between, those that are here wait for the last message: it has all.
    if (isLast || value.from <= found.count) await found.add(value.masks, isCurrent);
    if (!isCurrent()) return;
    if (lit && !found.get(lit.id)) light(null);
    found.paint();
    view.redraw("everything");
    if (search?.token !== value.token) return showAll(); // cancelled meanwhile
    isThrough = value.state === "done";
    if (isLast) return finish(value.text || outcome(value));
    showRun(`${masksText(found.count)}, ${value.done} of ${value.total} points`, value.total ? value.done / value.total : 0);
    showAll();
  }

  function outcome({ state }) {
    if (state === "cancelled") return "The search was interrupted; please start it again.";
    if (state === "failed") return "The search failed; please try again.";
    return found.count ? "Done" : NOTHING_FOUND;
  }

  // --- showing ---------------------------------------------------------------------------------

  function say(text) {
    status.textContent = text;
    page.announce(text);
  }

  function showRun(text, share) {
    const isRunning = search !== null;
    const hadFocus = document.activeElement === start;
    start.hidden = isRunning;
    cancel.hidden = !isRunning;
    if (hadFocus && isRunning) cancel.focus();
    const percent = Math.round(100 * share);
    progress.setAttribute("aria-valuenow", String(percent));
    progress.classList.toggle("ms-running", isRunning);
    bar.style.width = `${percent}%`;
    status.textContent = text;
    parts.root.dataset.everything = isRunning ? "running" : isSearched ? "done" : "";
    showTag();
  }

  // What stands over the photo: the numbers of the mask that is shown alone. On a phone, where the
  // panel is out of sight, also the button that starts or ends a search.
  function showTag() {
    const isCall = !lit && (search !== null || !isSearched || (!isThrough && !found.count));
    tag.hidden = !isShown || !view.photo || (!lit && !isCall);
    tag.classList.toggle("ms-call", isCall);
    tagColor.hidden = !lit;
    tagButton.hidden = !isCall && !isPinned;
    tagButton.textContent = lit ? (lit.isObject ? "Remove" : "Make it an object") : search ? cancel.textContent : start.textContent;
    if (!lit) tagText.textContent = search ? masksText(found.count) : "";
    if (!lit) return;
    const share = percentText(lit.area / (view.photo.width * view.photo.height));
    const object = lit.isObject ? prompts.find(lit.objectId) : null;
    tagText.textContent = object ? `✓ An object now: ${object.name} · ${share}` : `${share} · ${countText(lit.area)} px · score ${scoreText(lit.iou)} · stability ${scoreText(lit.stability)}`;
    tagColor.style.background = `rgb(${lit.color.join(", ")})`;
  }

  function pressTag() {
    if (lit?.isObject) giveUpObject(lit);
    else if (lit) adopt(lit);
    else if (search) end("Cancelled");
    else begin();
  }

  function showAll() {
    const none = isThrough ? NOTHING_FOUND : "None yet: press Find everything.";
    const sentence = search ? "Masks appear here and on the photo." : none;
    const { width, height } = view.photo ?? { width: 1, height: 1 };
    table.show(found.all, width * height, sentence);
    table.mark(lit, false);
    countAside.textContent = found.count ? String(found.count) : "";
    parts.root.dataset.found = String(found.count);
    parts.root.classList.toggle("ms-found", found.count > 0);
    view.redraw("everything");
  }

  // Show one mask alone; `isElsewhere`: it was not pointed at in the table.
  function light(mask, isElsewhere = true) {
    if (mask === lit) return;
    lit = mask;
    isPinned = false;
    pictures = mask ? found.picture(mask) : [];
    table.mark(mask, isElsewhere);
    parts.root.dataset.lit = mask ? String(mask.id) : "";
    showTag();
    const isByKeys = isElsewhere && parts.root.classList.contains("ms-keys");
    if (mask && isByKeys) page.announce(`Mask ${mask.id}: ${tagText.textContent}`);
    view.redraw("everything");
  }

  function adopt(mask) {
    if (!mask) return;
    if (mask.isObject) prompts.select(mask.objectId);
    else {
      const id = prompts.adopt({ point: mask.point, area: mask.area });
      if (id === null) return page.tooManyObjects();
      mask.objectId = id;
    }
    told = mask;
    say(OBJECT_NOW);
    objectsChanged();
  }

  function giveUpObject(mask) {
    prompts.remove(mask.objectId);
    told = mask;
    say(OBJECT_NO_MORE);
  }

  // Objects come and go elsewhere, too: deleted, undone, redone.
  function objectsChanged() {
    const isObject = ({ objectId }) => prompts.find(objectId) !== null;
    const others = found.all.filter((mask) => mask.isObject !== isObject(mask));
    if (!others.length) return;
    for (const mask of others) mask.isObject = !mask.isObject;
    if (others.includes(told)) status.textContent = told.isObject ? OBJECT_NOW : OBJECT_NO_MORE;
    found.paint();
    showAll();
    showTag();
  }

  function draw(context, { transform: { scale, dx, dy }, ratio, photo }) {
    if (!isShown || !found.count) return;
    const { width, height } = found.size;
    const across = (ratio * scale * photo.width) / width;
    const down = (ratio * scale * photo.height) / height;
    context.setTransform(across, 0, 0, down, dx * ratio, dy * ratio);
    context.imageSmoothingEnabled = across < 3;
    if (!lit) return context.drawImage(found.sheet, 0, 0);
    const [shape, line] = pictures;
    context.fillStyle = "rgba(0, 0, 0, 0.6)";
    context.fillRect(0, 0, width, height);
    context.globalCompositeOperation = "destination-out";
    context.drawImage(shape, lit.left, lit.top);
    context.globalCompositeOperation = "source-over";
    context.globalAlpha = 0.35;
    context.drawImage(shape, lit.left, lit.top);
    context.globalAlpha = 1;
    context.drawImage(line, lit.left, lit.top);
  }

  showRun("", 0);
  showAll();

  return {
    controls,
    onUpdate,
    draw,
    objectsChanged,
    // The photo has been encoded.
    photoReady() {
      if (search && !search.isAsked) ask();
    },
    // The server ends the search of a photo that is gone by itself.
    pictureChanged: startOver,
    photoFailed() {
      if (search && !search.isAsked) end("The photo could not be read; please open it again.");
    },
    // `defaults`: the options that suit the model.
    modelChanged(name, defaults) {
      controls.suggest(defaults);
      const isOther = model !== null && name !== model;
      const isCut = isOther && search?.isAsked;
      model = name;
      if (isCut) end("Cancelled");
      if (isOther) startOver();
      if (isCut) say("The search ended: another model was chosen.");
    },
    tabChanged(isOpen) {
      isShown = isOpen;
      light(null);
      showTag();
      view.redraw("everything");
    },
    hoverAt(position) {
      const mask = position && isShown ? found.at(position) : null;
      if (mask || !isPinned) light(mask);
    },
    // Returns whether there is a mask. The first tap of a finger only shows it.
    pick(position) {
      const mask = found.at(position);
      if (mask && mask === lit) adopt(mask);
      else {
        light(mask);
        isPinned = mask !== null;
        showTag();
      }
      return mask !== null;
    },
  };

  // What was found is another photo's, or model's. A search that waits for its photo is for this one.
  function startOver() {
    const waiting = search && !search.isAsked ? search : null;
    forget();
    search = waiting;
    if (search) showRun(WAITING, 0);
  }

  function forget() {
    stopWaiting();
    epoch += 1;
    search = null;
    isSearched = isThrough = false;
    found.start(view.photo ?? { width: 1, height: 1 });
    light(null);
    showRun("", 0);
    showAll();
  }
}
