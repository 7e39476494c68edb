// What is written and drawn on the page's buttons, and how an element is made. Text goes in as
// text, never as HTML.

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
  copy: "M9 9h10v11H9zM5 15V4h10",
  camera: "M4 8h3l1.500-2.500h7L17 8h3v11H4zM12 16.500a3.200 3.200 0 1 0 0-6.400 3.200 3.200 0 0 0 0 6.400",
  paste: "M9 4h6v3H9zM9 5.500H6V20h12V5.500h-3M9 12h6M9 15.500h4",
  eye: "M2.500 12S6 5.500 12 5.500 21.500 12 21.500 12 18 18.500 12 18.500 2.500 12 2.500 12zM12 14.600a2.600 2.600 0 1 0 0-5.200 2.600 2.600 0 0 0 0 5.200",
  hidden: "M4 4l16 16M9.500 6c.8-.3 1.600-.5 2.500-.5 6 0 9.500 6.500 9.500 6.500s-1 1.900-2.900 3.600M6 7.800C3.700 9.500 2.500 12 2.500 12S6 18.500 12 18.500c1.500 0 2.900-.4 4.100-1",
  trash: "M5 7h14M10 4h4M7 7l1 13h8l1-13M10.500 11v5.500M13.500 11v5.500",
  pencil: "M5 19l1-4L16 5l3 3L9 18zM14 7l3 3",
  link: "M10 14a4 4 0 0 0 6 .5l3-3a4 4 0 0 0-5.700-5.700L12 7M14 10a4 4 0 0 0-6-.5l-3 3a4 4 0 0 0 5.700 5.700L12 17",
};

const TOOLS = [
  { name: "include", label: "Include", keys: "1", hint: "Click what belongs to it. Drag for a box." },
  { name: "exclude", label: "Exclude", keys: "2", hint: "Click what does not belong to it." },
  { name: "box", label: "Box", keys: "3", hint: "Drag a box round it." },
  { name: "sketch", label: "Sketch", keys: "4", hint: "Draw round it, or along it." },
  { name: "pan", label: "Move", keys: "5", hint: "Drag the photo about." },
];
// What the first tool is called, and does, where masks are picked.
const PICK = { ...TOOLS[0], label: "Pick", hint: "Click a mask to make it an object." };

// Told apart by red-green-blind eyes, too (Okabe and Ito's set, with the page's blue first).
const COLORS = [
  ["#1e90ff", "Blue"],
  ["#e69f00", "Orange"],
  ["#009e73", "Green"],
  ["#cc79a7", "Pink"],
  ["#f0e442", "Yellow"],
  ["#56b4e9", "Sky"],
  ["#d55e00", "Vermilion"],
];

const TABS = [
  ["segment", "Segment"],
  ["everything", "Everything"],
  ["compare", "Compare"],
];

const SAVES = [
  ["cutout", "Cut-out", "PNG of the selected object on a transparent background"],
  ["mask", "Mask", "PNG of the selected object, black and white"],
  ["overlay", "Overlay", "PNG of the photo with all objects in colour"],
  ["indexed", "All masks", "one PNG whose pixels are the objects' numbers"],
  ["svg", "SVG", "outlines of all objects"],
  ["coco", "COCO", "JSON with run lengths and polygons"],
  ["labelme", "LabelMe", "JSON with polygons"],
  ["yolo", "YOLO", "text with polygons, for YOLO segmentation"],
  ["zip", "ZIP", "all of these in one file"],
];

const COMMAND = /^(Mac|iP)/.test(navigator.platform) ? "⌘" : "Ctrl";

const KEYS = [
  ["Arrows", "move the cursor (Shift: faster)"],
  ["Enter", "include the spot under the cursor"],
  ["Shift + Enter", "exclude it"],
  ["B, then B", "two corners of a box"],
  ["Delete", "remove the nearest point, or the box"],
  [`${COMMAND} + Z`, "undo, across objects; with Shift, redo"],
  ["+  −  0", "zoom in, out, whole photo"],
  ["1 to 5", "choose a tool"],
  ["N", "start a new object"],
  ["[  ]", "select the previous or next object"],
  ["F2", "rename the selected object"],
  [`${COMMAND} + wheel`, "zoom; so does a pinch, on glass or trackpad"],
  ["Right-click", "exclude; so do Shift-click and a long press"],
  ["Escape", "give up a box, a stroke or a drag; close a message"],
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

// What can do nothing now keeps its place in the tab order, so that a press which brings this about
// does not lose the focus: it is greyed, said to be unavailable, and its presses go nowhere.
function setDisabled(control, isDisabled) {
  control.setAttribute("aria-disabled", String(isDisabled));
}

function isDisabled(control) {
  return control.getAttribute("aria-disabled") === "true";
}

function ignorePressesOfDisabled(root) {
  root.addEventListener("click", (event) => {
    if (!event.target.closest("[aria-disabled=true]")) return;
    event.preventDefault();
    event.stopPropagation();
  }, true);
}

function iconButton(name, label, extra = {}) {
  return make(
    "button",
    { type: "button", class: "ms-button", "aria-label": label, title: label, ...extra },
    icon(name),
  );
}

// Copy a text; returns whether it could be. Pages without https, and frames whose page does not allow it,
// have the older way only.
async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = make("textarea", { readonly: "", style: "position: fixed; top: 0; opacity: 0" });
    const focused = document.activeElement;
    document.body.append(field);
    field.value = text;
    field.focus({ preventScroll: true });
    field.select();
    const isCopied = document.execCommand("copy");
    field.remove();
    focused?.focus({ preventScroll: true });
    return isCopied;
  }
}
