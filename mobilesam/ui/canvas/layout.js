// Builds the page's elements once. Text goes in as text, never as HTML.

const ICONS = {
  include: "M12 5v14M5 12h14",
  exclude: "M5 12h14",
  box: "M4 8V4h4M16 4h4v4M20 16v4h-4M8 20H4v-4",
  sketch: "M4 17c2.500-7 5-9 6.500-8s-2 6 .5 6.500S15 7 20 6",
  pan: "M12 3v18M3 12h18M12 3 9.500 5.500M12 3l2.500 2.500M12 21l-2.500-2.500M12 21l2.500-2.500M3 12l2.500-2.500M3 12l2.500 2.500M21 12l-2.500-2.500M21 12l-2.500 2.500",
  undo: "M9 6 4.500 10.500 9 15M5 10.500h9a5 5 0 0 1 0 10h-3",
  redo: "M15 6l4.500 4.500L15 15M19 10.500h-9a5 5 0 0 0 0 10h3",
  clear: "M6 6l12 12M18 6 6 18",
  zoomIn: "M12 6v12M6 12h12",
  zoomOut: "M6 12h12",
  photo: "M4 6.500A1.500 1.500 0 0 1 5.500 5h13A1.500 1.500 0 0 1 20 6.500v11a1.500 1.500 0 0 1-1.500 1.500h-13A1.500 1.500 0 0 1 4 17.500zM4 16l4.500-4.500 4 4 2.500-2.500 5 5M15.500 9h.01",
  save: "M12 4v11M7.500 10.500 12 15l4.500-4.500M5 20h14",
  copy: "M9 9h10v11H9zM5 15V4h10",
};

const TOOLS = [
  { name: "include", label: "Include", keys: "1", hint: "Click what belongs to it. Drag for a box." },
  { name: "exclude", label: "Exclude", keys: "2", hint: "Click what does not belong to it." },
  { name: "box", label: "Box", keys: "3", hint: "Drag a box round it." },
  { name: "sketch", label: "Sketch", keys: "4", hint: "Draw round it, or along it." },
  { name: "pan", label: "Move", keys: "5", hint: "Drag the photo about." },
];

const COLORS = [
  ["#1e90ff", "Blue"],
  ["#e8590c", "Orange"],
  ["#12b886", "Green"],
  ["#cc5de8", "Violet"],
  ["#ffd43b", "Yellow"],
  ["#ffffff", "White"],
];

const KEYS = [
  ["Arrows", "move the cursor (Shift: faster)"],
  ["Enter", "include the spot under the cursor"],
  ["Shift + Enter", "exclude it"],
  ["B, then B", "two corners of a box"],
  ["Delete", "remove the nearest point, or the box"],
  ["Ctrl + Z", "undo; with Shift, redo"],
  ["+  −  0", "zoom in, out, whole photo"],
  ["1 to 5", "choose a tool"],
  ["Ctrl + wheel", "zoom; pinch on a phone"],
  ["Right-click", "exclude; so do Shift-click and a long press"],
  ["Click a point", "remove it; drag to move it"],
  ["The box", "drag its handles; ✕ removes it"],
];

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, entry] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [type, listener] of Object.entries(entry)) node.addEventListener(type, listener);
    } else if (entry === true) node.setAttribute(name, "");
    else if (entry !== false && entry != null) node.setAttribute(name, entry);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

function iconButton(name, label, extra = {}) {
  return make(
    "button",
    { type: "button", class: "ms-button", "aria-label": label, title: label, ...extra },
    icon(name),
  );
}

function buildHeader(parts) {
  parts.model = make("select", { class: "ms-select", "aria-label": "Model", hidden: true });
  parts.modelName = make("span", { class: "ms-model-name" });
  parts.modelNote = make("p", { class: "ms-model-note", role: "status" });
  return make(
    "header",
    { class: "ms-head" },
    make(
      "div",
      { class: "ms-brand" },
      make("h1", {}, "MobileSAM"),
      make("p", {}, "Click anything in a photo. Its mask appears."),
    ),
    make("div", { class: "ms-model" }, make("div", {}, parts.modelName, parts.model), parts.modelNote),
  );
}

function buildToolbar(parts) {
  parts.tools = TOOLS.map(({ name, label, keys, hint }) =>
    make(
      "button",
      {
        type: "button",
        role: "radio",
        class: `ms-button ms-tool ms-tool-${name}`,
        "data-tool": name,
        "aria-checked": "false",
        "aria-label": label,
        title: `${label} (${keys}): ${hint}`,
      },
      icon(name),
      make("span", {}, label),
    ),
  );
  parts.undo = iconButton("undo", "Undo (Ctrl+Z)", { "data-action": "undo" });
  parts.redo = iconButton("redo", "Redo (Ctrl+Shift+Z)", { "data-action": "redo" });
  parts.clear = iconButton("clear", "Clear all points and the box", { "data-action": "clear" });
  parts.zoomOut = iconButton("zoomOut", "Zoom out (-)", { "data-action": "zoom-out" });
  parts.zoomFit = make(
    "button",
    {
      type: "button",
      class: "ms-button ms-zoom-fit",
      "data-action": "zoom-fit",
      title: "Show the whole photo (0)",
      "aria-label": "Show the whole photo",
    },
    "100 %",
  );
  parts.zoomIn = iconButton("zoomIn", "Zoom in (+)", { "data-action": "zoom-in" });
  parts.file = make("input", { type: "file", accept: "image/*", class: "ms-hidden", tabindex: "-1", "aria-hidden": "true" });
  parts.open = make(
    "button",
    { type: "button", class: "ms-button ms-primary", "data-action": "open" },
    icon("photo"),
    make("span", {}, "Open photo"),
  );
  parts.toolbar = make(
    "div",
    { class: "ms-toolbar", role: "toolbar", "aria-label": "Tools" },
    make("div", { class: "ms-group", role: "radiogroup", "aria-label": "Tool" }, ...parts.tools),
    make("div", { class: "ms-group" }, parts.undo, parts.redo, parts.clear),
    make("div", { class: "ms-group ms-open" }, parts.file, parts.open),
  );
  return parts.toolbar;
}

function buildStage(parts) {
  parts.photoLayer = make("canvas", { "aria-hidden": "true" });
  parts.maskLayer = make("canvas", { "aria-hidden": "true" });
  parts.markLayer = make("canvas", { "aria-hidden": "true" });
  parts.hint = make("p", { class: "ms-hint" });
  parts.busyText = make("span");
  parts.busy = make("div", { class: "ms-busy", hidden: true }, make("i"), parts.busyText);
  parts.noticeText = make("span");
  parts.noticeClose = iconButton("clear", "Close this message");
  parts.notice = make(
    "div",
    { class: "ms-notice", role: "alert", hidden: true },
    parts.noticeText,
    parts.noticeClose,
  );
  parts.empty = make(
    "div",
    { class: "ms-empty" },
    icon("photo"),
    make("strong", {}, "Drop a photo here"),
    make("span", {}, "or click to choose one, or paste it"),
  );
  parts.fit = make(
    "button",
    { type: "button", class: "ms-fit", "data-action": "fit", "aria-label": "Show the whole photo", hidden: true },
    "Whole photo",
  );
  parts.stage = make(
    "div",
    {
      class: "ms-stage",
      tabindex: "0",
      role: "application",
      "aria-roledescription": "photo to click on",
      "aria-label": "Photo. Arrow keys move a cursor, Enter includes the spot under it.",
    },
    parts.photoLayer,
    parts.maskLayer,
    parts.markLayer,
    parts.empty,
    parts.hint,
    parts.busy,
    parts.fit,
    make("div", { class: "ms-veil" }, "Drop to open"),
  );
  return make("div", { class: "ms-frame" }, parts.stage, parts.notice);
}

function buildSide(parts) {
  parts.candidates = make("div", { class: "ms-candidates", role: "radiogroup", "aria-label": "Masks" });
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
  parts.saves = [
    ["cutout", "Cut-out", "transparent background"],
    ["mask", "Mask", "black and white"],
    ["overlay", "Overlay", "photo with colour"],
  ].map(([kind, label, detail]) =>
    make(
      "button",
      { type: "button", class: "ms-button ms-save", "data-save": kind, disabled: true },
      icon("save"),
      make("span", {}, label),
      make("small", {}, detail),
    ),
  );
  parts.saveSize = make("span", { class: "ms-aside" });
  parts.code = make("code");
  parts.copy = iconButton("copy", "Copy the Python lines");
  parts.codeBlock = make("details", { class: "ms-details" }, make("summary", {}, "Python for this mask"),
    make("div", { class: "ms-code" }, make("pre", { tabindex: "0" }, parts.code), parts.copy));
  const keys = KEYS.flatMap(([key, meaning]) => [make("dt", {}, key), make("dd", {}, meaning)]);
  return make(
    "aside",
    { class: "ms-side", "aria-label": "Result" },
    make("section", {}, make("h2", {}, "Masks"), parts.candidates),
    make("section", {}, make("h2", {}, "Colour"), make("div", { class: "ms-look" },
      make("div", { class: "ms-swatches", role: "radiogroup", "aria-label": "Colour" }, ...parts.colors),
      make("label", { class: "ms-opacity" }, "Opacity", parts.opacity, parts.opacityText))),
    make("section", {}, make("h2", {}, "Save as PNG ", parts.saveSize), make("div", { class: "ms-saves" }, ...parts.saves)),
    parts.codeBlock,
    make("details", { class: "ms-details" }, make("summary", {}, "Keyboard and gestures"), make("dl", {}, ...keys)),
  );
}

function buildLayout(host) {
  const parts = { host };
  parts.status = make("p", { class: "ms-status", "aria-live": "off" });
  parts.list = make("ul", { class: "ms-list", "aria-label": "Points and box" });
  parts.live = make("p", { class: "ms-hidden", "aria-live": "polite", role: "status" });
  parts.examples = make("div", { class: "ms-examples" });
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
  );
  parts.root = make("div", { class: "ms", "data-state": "empty" }, buildHeader(parts),
    make("div", { class: "ms-main" }, work, buildSide(parts)), parts.live);
  host.replaceChildren(make("style", {}, STYLE), parts.root);
  return parts;
}
