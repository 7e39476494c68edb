// Builds the page's elements once.

function buildHeader(parts) {
  parts.model = make("select", { class: "ms-select", "aria-label": "Model", hidden: true });
  parts.modelName = make("span", { class: "ms-model-name" });
  parts.modelNews = make("span", { role: "status" });
  parts.modelShare = make("span"); // of a download: for the eye only, a screen reader would never end
  parts.modelNote = make("p", { class: "ms-model-note" }, parts.modelNews, parts.modelShare);
  parts.tabs = TABS.map(([name, label]) =>
    make("button", { type: "button", role: "tab", class: "ms-tab", id: `ms-tab-${name}`, "data-tab": name, "aria-controls": name === "compare" ? "mobilesam-compare" : `ms-panel-${name}` }, label),
  );
  return make(
    "header",
    { class: "ms-head" },
    make(
      "div",
      { class: "ms-brand" },
      make("h1", {}, "MobileSAM"),
      make("p", {}, "Click anything in a photo. Its mask appears."),
    ),
    make("div", { class: "ms-tabs", role: "tablist", "aria-label": "What to do with the photo" }, ...parts.tabs),
    make("div", { class: "ms-model" }, make("div", {}, parts.modelName, parts.model), parts.modelNote),
  );
}

function nameTool(button, { label, keys, hint }) {
  button.setAttribute("aria-label", label);
  button.title = `${label} (${keys}): ${hint}`;
  button.lastElementChild.textContent = label;
}

// The button's name begins with what it shows.
function showZoom(parts, zoom) {
  const percent = `${Math.round(zoom * 100)} %`;
  parts.zoomFit.textContent = percent;
  parts.zoomFit.setAttribute("aria-label", `${percent}: show the whole photo`);
  return percent;
}

// Where masks are picked, the first tool picks them, and the photo can be moved.
function offerTools(parts, isPicking) {
  for (const tool of parts.tools) setDisabled(tool, isPicking && !["include", "pan"].includes(tool.dataset.tool));
  nameTool(parts.tools[0], isPicking ? PICK : TOOLS[0]);
  const enter = isPicking ? "makes the mask under it an object" : "includes the spot under it";
  parts.stage.setAttribute("aria-label", `Photo. Arrow keys move a cursor, Enter ${enter}.`);
}

function buildToolbar(parts) {
  parts.tools = TOOLS.map((tool) => {
    const attributes = { type: "button", role: "radio", "data-tool": tool.name, "aria-checked": "false" };
    const button = make("button", { class: `ms-button ms-tool ms-tool-${tool.name}`, ...attributes }, icon(tool.name), make("span"));
    nameTool(button, tool);
    return button;
  });
  parts.undo = iconButton("undo", `Undo (${COMMAND}+Z)`, { "data-action": "undo" });
  parts.redo = iconButton("redo", `Redo (${COMMAND}+Shift+Z)`, { "data-action": "redo" });
  parts.clear = iconButton("clear", "Clear the object's points and box", { "data-action": "clear" });
  parts.zoomOut = iconButton("zoomOut", "Zoom out (-)", { "data-action": "zoom-out" });
  parts.zoomFit = make(
    "button",
    {
      type: "button",
      class: "ms-button ms-zoom-fit",
      "data-action": "zoom-fit",
      title: "Show the whole photo (0)",
    },
  );
  showZoom(parts, 1);
  parts.zoomIn = iconButton("zoomIn", "Zoom in (+)", { "data-action": "zoom-in" });
  parts.file = make("input", { type: "file", accept: "image/*,.heic,.heif", class: "ms-hidden", tabindex: "-1", "aria-hidden": "true" });
  parts.camera = iconButton("camera", "Take a photo with the camera");
  parts.pasteButton = iconButton("paste", "Paste a photo from the clipboard");
  parts.open = make(
    "button",
    { type: "button", class: "ms-button ms-primary", "data-action": "open", "aria-label": "Open photo" },
    icon("photo"),
    make("span", {}, "Open", make("span", { class: "ms-long" }, " photo")),
  );
  parts.toolbar = make(
    "div",
    { class: "ms-toolbar", role: "toolbar", "aria-label": "Tools" },
    make("div", { class: "ms-group", role: "radiogroup", "aria-label": "Tool" }, ...parts.tools),
    make("div", { class: "ms-group" }, parts.undo, parts.redo, parts.clear),
    make("div", { class: "ms-group ms-open" }, parts.file, parts.camera, parts.pasteButton, parts.open),
  );
  return parts.toolbar;
}

function buildStage(parts) {
  parts.photoLayer = make("canvas", { "aria-hidden": "true" });
  parts.maskLayer = make("canvas", { "aria-hidden": "true" });
  parts.everythingLayer = make("canvas", { "aria-hidden": "true" });
  parts.markLayer = make("canvas", { "aria-hidden": "true" });
  parts.hint = make("p", { class: "ms-hint" });
  parts.busyText = make("span");
  parts.busy = make("div", { class: "ms-busy", hidden: true }, make("i"), parts.busyText);
  parts.noticeText = make("span");
  parts.back = make("button", { type: "button", class: "ms-button ms-back", "data-action": "back" }, "Back to my photo");
  parts.noticeClose = iconButton("clear", "Close this message");
  parts.notice = make(
    "div",
    { class: "ms-notice", role: "alert", hidden: true },
    parts.noticeText,
    parts.back,
    parts.noticeClose,
  );
  const isTouch = matchMedia("(pointer: coarse)").matches;
  parts.empty = make(
    "div",
    { class: "ms-empty" },
    icon("photo"),
    make("strong", {}, isTouch ? "Choose a photo" : "Drop a photo here"),
    make("span", {}, isTouch ? "or take one with the camera" : "or click to choose one, or paste it"),
  );
  parts.stage = make(
    "div",
    {
      class: "ms-stage",
      tabindex: "0",
      role: "application",
      "aria-roledescription": "photo to click on",
    },
    parts.photoLayer,
    parts.maskLayer,
    parts.everythingLayer,
    parts.markLayer,
    parts.empty,
    parts.hint,
    parts.busy,
    make("div", { class: "ms-veil" }, "Drop to open"),
  );
  return make("div", { class: "ms-frame" }, parts.stage, parts.notice);
}

// The heading holds text only; `aside` stands beside it.
function section(title, aside, ...content) {
  return make("section", {}, make("div", { class: "ms-heading" }, make("h2", {}, title), aside), ...content);
}

function slider(label, max, unit) {
  const input = make("input", { type: "range", min: "0", max: String(max), value: "0", "aria-label": label });
  const output = make("output", {});
  return { node: make("label", { class: "ms-slider" }, make("span", {}, label), input, output), input, output, unit };
}

function buildObjects(parts) {
  parts.objectList = make("ul", { class: "ms-objects", "aria-label": "Objects" });
  parts.noObjects = make("p", { class: "ms-none" }, "None yet: click on the photo.");
  parts.newObject = make("button", { type: "button", class: "ms-link", "data-action": "new-object", title: "Start a new object (N)" }, "New object");
  parts.removeAll = make("button", { type: "button", class: "ms-link", "data-action": "remove-all" }, "Delete all");
  parts.colors = COLORS.map(([color, name]) =>
    make("button", {
      type: "button",
      role: "radio",
      class: "ms-swatch",
      "aria-checked": "false",
      "aria-label": name,
      title: name,
      "data-color": color,
      style: `--swatch: ${color}`,
    }),
  );
  parts.opacity = make("input", { type: "range", min: "0", max: "100", value: "50", "aria-label": "Opacity" });
  parts.opacityText = make("output", {}, "50 %");
  return section(
    "Objects",
    make("span", { class: "ms-aside" }, parts.newObject, parts.removeAll),
    make("div", { class: "ms-object-box" }, parts.noObjects, parts.objectList),
    make("div", { class: "ms-swatches", role: "radiogroup", "aria-label": "Colour of the selected object" }, ...parts.colors),
    make("label", { class: "ms-slider" }, make("span", {}, "Opacity"), parts.opacity, parts.opacityText),
  );
}

function buildCandidates(parts) {
  parts.candidates = make("div", { class: "ms-candidates", role: "radiogroup", "aria-label": "Candidates" });
  parts.verdict = make("p", { class: "ms-verdict" });
  parts.candidatesOf = make("span", { class: "ms-aside" });
  return section("Candidates", parts.candidatesOf, parts.candidates, parts.verdict);
}

function buildRefine(parts) {
  parts.refine = {
    area: slider("Specks, holes", 100, "area"),
    smooth: slider("Smooth", 40, "length"),
    feather: slider("Feather", 40, "length"),
  };
  parts.refineBlock = make(
    "details",
    { class: "ms-details" },
    make("summary", {}, "Clean up the edge"),
    make("div", { class: "ms-refine" }, ...Object.values(parts.refine).map(({ node }) => node)),
  );
  return parts.refineBlock;
}

function buildSaves(parts) {
  parts.saves = SAVES.map(([kind, label, detail]) =>
    make("button", { type: "button", class: "ms-button ms-save", "data-save": kind, "data-detail": detail, title: `Save: ${detail}`, "aria-label": `Save ${label}: ${detail}`, "aria-disabled": "true" }, label),
  );
  parts.saveSize = make("span", { class: "ms-aside" });
  parts.share = make("button", { type: "button", class: "ms-button ms-share", "data-action": "share" }, icon("link"), make("span", {}, "Copy link"));
  return section(
    "Save",
    parts.saveSize,
    make("div", { class: "ms-saves", role: "group", "aria-label": "Save as" }, ...parts.saves),
    parts.share,
  );
}

function buildLines(parts) {
  parts.code = make("code");
  parts.command = make("code");
  const block = (label, code) => {
    const copy = iconButton("copy", `Copy the ${label}`);
    copy.addEventListener("click", () => copyText(parts, copy, code));
    return make("div", { class: "ms-code" }, make("div", { class: "ms-heading" }, make("h3", {}, label), copy), make("pre", { tabindex: "0", "aria-label": label }, code));
  };
  parts.codeBlock = make(
    "details",
    { class: "ms-details" },
    make("summary", {}, "Python and command line"),
    block("Python lines", parts.code),
    block("Command line", parts.command),
  );
  return parts.codeBlock;
}

async function copyText(parts, button, code) {
  const isCopied = await toClipboard(code.textContent);
  const said = isCopied ? "Copied." : "Selected: copy it with the keyboard.";
  parts.root.dispatchEvent(new CustomEvent("announce", { detail: said }));
  if (!isCopied) return getSelection().selectAllChildren(code);
  button.classList.add("ms-done");
  setTimeout(() => button.classList.remove("ms-done"), 1200);
}

function buildSide(parts) {
  const keys = KEYS.flatMap(([key, meaning]) => [make("dt", {}, key), make("dd", {}, meaning)]);
  const panel = (name, ...content) =>
    make("section", { class: "ms-panel", role: "tabpanel", id: `ms-panel-${name}`, "aria-labelledby": `ms-tab-${name}` }, ...content);
  parts.panels = {
    segment: panel(
      "segment",
      buildObjects(parts),
      buildCandidates(parts),
      buildSaves(parts),
      buildRefine(parts),
      buildLines(parts),
      make("details", { class: "ms-details" }, make("summary", {}, "Keyboard and gestures"), make("dl", {}, ...keys)),
    ),
    everything: panel("everything"),
  };
  return make("aside", { class: "ms-side", "aria-label": "Result" }, ...Object.values(parts.panels));
}

function buildLayout(host) {
  const parts = { host };
  parts.status = make("p", { class: "ms-status", "aria-live": "off" });
  parts.list = make("ul", { class: "ms-list", "aria-label": "Points and box" });
  parts.live = make("p", { class: "ms-hidden", "aria-live": "polite", role: "status" });
  parts.examples = make("div", { class: "ms-examples" });
  parts.credit = make("p", { class: "ms-credit" });
  const work = make(
    "section",
    { class: "ms-work", "aria-label": "Photo" },
    buildToolbar(parts),
    buildStage(parts),
    make(
      "div",
      { class: "ms-below" },
      parts.status,
      make("div", { class: "ms-zoom", role: "group", "aria-label": "Zoom" }, parts.zoomOut, parts.zoomFit, parts.zoomIn),
    ),
    parts.list,
    parts.examples,
    parts.credit,
  );
  parts.root = make("div", { class: "ms", "data-state": "empty" }, buildHeader(parts),
    make("div", { class: "ms-main" }, work, buildSide(parts)), parts.live);
  host.replaceChildren(make("style", {}, STYLE), parts.root);
  host.closest("main")?.setAttribute("lang", "en"); // Gradio says the browser's language, and has its footer in it
  return parts;
}
