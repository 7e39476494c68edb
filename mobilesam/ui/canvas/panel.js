// Everything round the stage that shows the result: masks to choose from, colour, downloads,
// status line, Python lines, the list of points, examples, and the models.

const THUMB_HEIGHT = 116; // device pixels: twice the height on the page
const USUAL_SLOTS = 3; // masks that a lone click gets; other prompts get one more

function createPanel(parts, view, prompts, masks, look, page) {
  // The part of the photo that thumbnails show: all masks with some room round them, or as much of
  // the photo as has the thumbnails' shape. In shares of the photo's sides.
  function thumbnailWindow(aspect) {
    const { width, height } = view.photo;
    const union = unionBounds(masks.all.map(({ alpha }) => alpha));
    const { left, top, right, bottom } = union || { left: 0, top: 0, right: 1, bottom: 1 };
    const room = 0.12 * Math.max((right - left) * width, (bottom - top) * height, 0.3 * Math.min(width, height));
    const spanX = (right - left) * width + 2 * room;
    const spanY = (bottom - top) * height + 2 * room;
    const middle = { x: ((left + right) / 2) * width, y: ((top + bottom) / 2) * height };
    const across = windowAlong(middle.x - spanX / 2, middle.x + spanX / 2, spanY * aspect, width);
    const down = windowAlong(middle.y - spanY / 2, middle.y + spanY / 2, spanX / aspect, height);
    return { x: across.start / width, y: down.start / height, width: across.size / width, height: down.size / height };
  }

  function thumbnail(alpha, part, width) {
    const canvas = make("canvas", { width, height: THUMB_HEIGHT });
    const context = canvas.getContext("2d");
    const { photo } = view;
    const size = { width: part.width * photo.width, height: part.height * photo.height };
    const scale = Math.min(width / size.width, THUMB_HEIGHT / size.height);
    const place = { width: Math.max(1, size.width * scale), height: Math.max(1, size.height * scale) };
    const draw = (picture) =>
      context.drawImage(
        picture,
        part.x * picture.width,
        part.y * picture.height,
        part.width * picture.width,
        part.height * picture.height,
        (width - place.width) / 2,
        (THUMB_HEIGHT - place.height) / 2,
        place.width,
        place.height,
      );
    draw(alpha);
    context.globalCompositeOperation = "source-in";
    draw(photo.source);
    context.globalCompositeOperation = "destination-over";
    context.globalAlpha = 0.22;
    draw(photo.source);
    return canvas;
  }

  function emptySlot() {
    return make("span", { class: "ms-slot", "aria-hidden": "true" });
  }

  function showCandidates() {
    const slots = masks.all.length || USUAL_SLOTS;
    parts.candidates.style.setProperty("--slots", slots);
    const slotWidth = (parts.candidates.clientWidth + 8) / slots - 18; // less gap, frame, padding
    const width = Math.round(clamp((slotWidth / 58) * THUMB_HEIGHT, 80, 2 * THUMB_HEIGHT));
    const part = masks.all.length ? thumbnailWindow(width / THUMB_HEIGHT) : null;
    const buttons = masks.all.map((mask, index) => {
      const share = mask.area / (view.photo.width * view.photo.height);
      const isChosen = index === masks.index;
      return make(
        "button",
        {
          type: "button",
          role: "radio",
          class: "ms-candidate",
          "aria-checked": String(isChosen),
          tabindex: isChosen ? "0" : "-1",
          "data-index": index,
          "aria-label": `Mask ${index + 1}: ${percentText(share)} of the photo, score ${scoreText(mask.score)}`,
          title: "Score: how sure the model is of this mask (its estimate of the overlap)",
        },
        thumbnail(mask.alpha, part, width),
        make("b", {}, scoreText(mask.score)),
      );
    });
    while (buttons.length < slots) buttons.push(emptySlot());
    const hadFocus = parts.candidates.contains(document.activeElement);
    parts.candidates.replaceChildren(...buttons);
    if (hadFocus) (parts.candidates.querySelector("[aria-checked=true]") || parts.stage).focus();
  }

  function showChosen() {
    for (const button of parts.candidates.querySelectorAll("button")) {
      const isChosen = Number(button.dataset.index) === masks.index;
      button.setAttribute("aria-checked", String(isChosen));
      button.tabIndex = isChosen ? 0 : -1;
    }
  }

  function choose(index) {
    if (!masks.all.length || !masks.isComplete) return; // the buttons are still the old masks'
    masks.choose(index);
    view.redraw("mask");
    showChosen();
    showStatus();
    showCode();
    page.announce(`Mask ${masks.index + 1} of ${masks.all.length} chosen.`);
  }

  function showStatus() {
    const { facts } = page;
    const pieces = [facts.modelTitle];
    if (facts.encodeMs != null) pieces.push(`encoded in ${timeText(facts.encodeMs)}`);
    const mask = masks.current;
    if (mask && !facts.isStale) {
      const share = mask.area / (view.photo.width * view.photo.height);
      pieces.push(
        `decoded in ${timeText(facts.decodeMs)}`,
        `area ${countText(mask.area)} px (${percentText(share)})`,
        `score ${scoreText(mask.score)}`,
      );
    }
    parts.status.replaceChildren(...pieces.filter(Boolean).map((piece) => make("span", {}, piece)));
  }

  function pythonLines() {
    const { facts } = page;
    const source = JSON.stringify(facts.modelSource || "embedded");
    const args = [];
    if (prompts.points.length) {
      args.push(`points=[${prompts.points.map(({ x, y }) => `(${x}, ${y})`).join(", ")}]`);
      args.push(`labels=[${prompts.points.map(({ label }) => label).join(", ")}]`);
    }
    if (prompts.box) args.push(`box=(${prompts.box.join(", ")})`);
    const photo = JSON.stringify(view.photo?.title || "photo.jpg");
    return [
      "from mobilesam import Predictor, load_model",
      "",
      `predictor = Predictor(load_model(${source}))`,
      `embedding = predictor.encode(${photo})`,
      `result = predictor.candidates(embedding, ${args.join(", ") || "points=[(x, y)], labels=[1]"})`,
      `mask = result.mask(${masks.index})  # (H, W) bool, the photo's own size`,
    ].join("\n");
  }

  function showCode() {
    if (parts.codeBlock.open) parts.code.textContent = pythonLines();
  }

  function showList() {
    const entries = prompts.points.map(({ x, y, label }, index) => {
      const name = `${label === 1 ? "include" : "exclude"} point at ${x}, ${y}`;
      return make("li", {}, make("button", { type: "button", "data-point": index }, `Remove ${name}`));
    });
    if (prompts.box) {
      const text = `Remove box ${prompts.box.join(", ")}`;
      entries.push(make("li", {}, make("button", { type: "button", "data-point": "box" }, text)));
    }
    parts.list.replaceChildren(...entries);
  }

  function showSaves() {
    const isPossible = masks.current !== null;
    for (const button of parts.saves) {
      button.disabled = !isPossible || button.dataset.busy === "true";
    }
    parts.saveSize.textContent = view.photo ? `${view.photo.width} × ${view.photo.height}` : "";
  }

  function showExamples(examples) {
    const buttons = examples.map(({ name, title, source }) =>
      make(
        "button",
        { type: "button", class: "ms-example", "data-example": name, title, "aria-label": `Example: ${title}` },
        make("img", { src: source, alt: "", loading: "lazy", draggable: "false" }),
      ),
    );
    const heading = buttons.length ? [make("span", { class: "ms-examples-title" }, "Try")] : [];
    parts.examples.replaceChildren(...heading, ...buttons);
  }

  function showModels(models, current) {
    const { choices, standard, fetching, percent } = models;
    const notice = current === standard ? models.notice : ""; // it is about the standard model
    const options = choices.map(({ name, title }) => make("option", { value: name }, title));
    parts.model.replaceChildren(...options);
    parts.model.value = current;
    parts.model.hidden = choices.length < 2;
    parts.modelName.hidden = choices.length > 1;
    parts.modelName.textContent = choices.find(({ name }) => name === current)?.title || "";
    const progress = percent == null ? "" : `Fetching the official ${fetching}: ${percent} %`;
    parts.modelNote.textContent = progress || notice;
    parts.modelNote.title = parts.modelNote.textContent;
  }

  function showLook() {
    for (const button of parts.colors) {
      const isChosen = button.dataset.color === look.color;
      button.setAttribute("aria-checked", String(isChosen));
      button.tabIndex = isChosen ? 0 : -1;
    }
  }

  // Arrow keys move within a group of radio buttons, as everywhere on the web.
  function arrowsMove(group) {
    group.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      const buttons = [...group.querySelectorAll("[role=radio]")];
      const index = buttons.indexOf(document.activeElement);
      if (index < 0) return;
      event.preventDefault();
      const next = buttons[(index + step + buttons.length) % buttons.length];
      next.focus();
      next.click();
    });
  }

  function pressed(event, selector) {
    const button = event.target.closest(selector);
    return button && !button.disabled ? button : null;
  }

  parts.candidates.addEventListener("click", (event) => {
    const button = pressed(event, ".ms-candidate");
    if (button) choose(Number(button.dataset.index));
  });
  for (const button of parts.colors) {
    button.addEventListener("click", () => {
      look.color = button.dataset.color;
      showLook();
      view.redraw("mask");
    });
  }
  parts.opacity.addEventListener("input", () => {
    look.opacity = Number(parts.opacity.value) / 100;
    parts.opacityText.textContent = `${parts.opacity.value} %`;
    view.redraw("mask");
  });
  for (const button of parts.saves) button.addEventListener("click", () => page.save(button));
  parts.list.addEventListener("click", (event) => {
    const which = pressed(event, "button")?.dataset.point;
    if (which === "box") prompts.setBox(null);
    else if (which !== undefined) prompts.removePoint(Number(which));
    (parts.list.querySelector("button") || parts.stage).focus();
  });
  parts.examples.addEventListener("click", (event) => {
    const name = pressed(event, ".ms-example")?.dataset.example;
    if (name) page.open({ example: name });
  });
  parts.codeBlock.addEventListener("toggle", showCode);
  parts.copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(pythonLines());
      page.announce("Copied.");
      parts.copy.classList.add("ms-done");
      setTimeout(() => parts.copy.classList.remove("ms-done"), 1200);
    } catch {
      getSelection().selectAllChildren(parts.code);
    }
  });
  arrowsMove(parts.candidates);
  arrowsMove(parts.colors[0].parentElement);
  arrowsMove(parts.tools[0].parentElement);
  showLook();
  showCandidates();

  return {
    showExamples,
    showModels,
    showStatus,
    // The prompts changed.
    showPrompts() {
      showList();
      showCode();
    },
    // Another set of masks, or none.
    showMasks() {
      showCandidates();
      showStatus();
      showSaves();
      showCode();
    },
    showSaves,
  };
}
