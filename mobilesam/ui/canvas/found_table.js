// The table of what was found: sorted, with one row to tab to and the arrow keys between them.

const FOUND_COLUMNS = [
  { key: "area", label: "Area" },
  { key: "iou", label: "Score", title: "Score: the model's estimate of the overlap (predicted IoU)" },
  { key: "stability", label: "Stability", title: "How little the mask changes with the cut" },
];
const PAGE_ROWS = 8; // of Page Up and Page Down

function masksText(count) {
  return `${count} ${count === 1 ? "mask" : "masks"}`;
}

// `on.light(mask | null)` shows a mask alone; `on.choose(mask)` makes it an object.
function createFoundTable(on) {
  let sorting = { key: "area", isUp: false };
  let photoArea = 1;
  let rows = new Map(); // id → { node, mask }
  let pressedOn = null; // the mask that was lit when a press began

  const heads = FOUND_COLUMNS.map(({ key, label, title }) => {
    const button = make("button", { type: "button", title, on: { click: () => sortBy(key) } }, label);
    return make("th", { scope: "col", "data-key": key }, button);
  });
  const body = make("tbody");
  const table = make(
    "table",
    { role: "grid", "aria-label": "Masks found. Arrow keys move, Enter makes an object." },
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, make("span", { class: "ms-hidden" }, "Mask")), ...heads)),
    body,
  );
  const empty = make("p", { class: "ms-found-empty" });
  const box = make("div", { class: "ms-found-box" }, table, empty);

  function sortBy(key) {
    sorting = { key, isUp: sorting.key === key ? !sorting.isUp : false };
    arrange();
  }

  function rowOf(mask) {
    const share = mask.area / photoArea;
    const [red, green, blue] = mask.color;
    return make(
      "tr",
      { role: "row", tabindex: "-1", "data-mask": mask.id },
      make("td", { role: "gridcell" }, make("i", { style: `background: rgb(${red}, ${green}, ${blue})` }), make("span", { class: "ms-hidden" }, `Mask ${mask.id}`)),
      make("td", { role: "gridcell" }, percentText(share), " ", make("small", {}, `${countText(mask.area)} px`)),
      make("td", { role: "gridcell" }, scoreText(mask.iou)),
      make("td", { role: "gridcell" }, scoreText(mask.stability)),
    );
  }

  // Put the rows in order; those that stand right are not touched, so that focus stays.
  function arrange() {
    for (const head of heads) {
      const isChosen = head.dataset.key === sorting.key;
      head.setAttribute("aria-sort", !isChosen ? "none" : sorting.isUp ? "ascending" : "descending");
    }
    const { key, isUp } = sorting;
    const sorted = [...rows.values()].sort((a, b) => (isUp ? 1 : -1) * (a.mask[key] - b.mask[key]) || a.mask.id - b.mask.id);
    const focused = body.contains(document.activeElement) ? document.activeElement : null;
    sorted.forEach(({ node }, index) => {
      if (body.children[index] !== node) body.insertBefore(node, body.children[index] ?? null);
    });
    if (focused && document.activeElement !== focused) focused.focus({ preventScroll: true });
    if (!body.querySelector("[tabindex='0']")) tabTo(body.firstElementChild);
    table.hidden = rows.size === 0;
    empty.hidden = rows.size > 0;
  }

  function tabTo(row) {
    for (const other of body.querySelectorAll("[tabindex='0']")) other.tabIndex = -1;
    if (row) row.tabIndex = 0;
  }

  function maskOf(event) {
    const row = event.target.closest("tr[data-mask]");
    return row ? rows.get(Number(row.dataset.mask))?.mask ?? null : null;
  }

  body.addEventListener("keydown", (event) => {
    const row = event.target.closest("tr[data-mask]");
    if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
    const all = [...body.children];
    const index = all.indexOf(row);
    const goals = { ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: all.length - 1, PageDown: index + PAGE_ROWS, PageUp: index - PAGE_ROWS };
    if (event.key in goals) all[clamp(goals[event.key], 0, all.length - 1)].focus();
    else if (event.key === "Enter" || event.key === " ") on.choose(maskOf(event));
    else return;
    event.preventDefault();
  });
  body.addEventListener("focusin", (event) => {
    tabTo(event.target.closest("tr"));
    on.light(maskOf(event));
  });
  body.addEventListener("focusout", (event) => {
    if (!body.contains(event.relatedTarget)) on.light(null);
  });
  body.addEventListener("pointerover", (event) => {
    if (event.pointerType === "mouse") on.light(maskOf(event));
  });
  body.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse") on.light(null);
  });
  // As on the photo: a finger's first tap shows the mask, its second one makes the object.
  body.addEventListener("pointerdown", () => {
    pressedOn = body.querySelector(".ms-lit");
  });
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-mask]");
    if (row && row === pressedOn) on.choose(maskOf(event));
  });

  return {
    box,
    // All masks there are now.
    show(masks, area, sentence) {
      const hadFocus = body.contains(document.activeElement);
      photoArea = area;
      empty.textContent = sentence;
      const known = rows;
      rows = new Map(masks.map((mask) => [mask.id, known.get(mask.id) ?? { mask, node: rowOf(mask) }]));
      for (const [id, { node }] of known) if (!rows.has(id)) node.remove();
      for (const { mask, node } of rows.values()) node.classList.toggle("ms-adopted", mask.isObject);
      arrange();
      if (hadFocus && !body.contains(document.activeElement)) body.querySelector("[tabindex='0']")?.focus({ preventScroll: true });
    },
    // Mark the row of the mask that is shown alone; `isElsewhere`: bring it into sight.
    mark(mask, isElsewhere) {
      for (const node of body.querySelectorAll(".ms-lit")) node.classList.remove("ms-lit");
      const node = mask && rows.get(mask.id)?.node;
      if (!node) return;
      node.classList.add("ms-lit");
      if (!isElsewhere) return;
      const above = table.tHead.offsetHeight;
      const low = node.offsetTop + node.offsetHeight - box.clientHeight;
      box.scrollTop = clamp(box.scrollTop, low, node.offsetTop - above); // the page itself stays
    },
  };
}
