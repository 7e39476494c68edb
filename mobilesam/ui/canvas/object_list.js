// The list of objects, and the colour, opacity and clean-up of the selected one.

function createObjectList(parts, view, prompts, look, page) {
  const rows = new Map(); // object id → its row's elements
  let isRefining = false; // a slider is being moved: one entry in the history for all of it
  let revealedId = null; // the selected object that was brought into sight

  // A row stays the same elements as long as it has its object: a press on it, between whose two ends
  // a mask arrives or a name is kept, still is a click.
  function makeRow(id) {
    const name = make("button", { type: "button", class: "ms-object-name", "data-do": "select", title: "Select; double-click or F2 renames" }, make("i"), make("span"));
    const rename = iconButton("pencil", "", { "data-do": "rename" });
    const hide = iconButton("eye", "", { "data-do": "hide" });
    const remove = iconButton("trash", "", { "data-do": "remove" });
    return { name, rename, hide, remove, node: make("li", { class: "ms-object", "data-object": id }, name, rename, hide, remove) };
  }

  function fillRow({ node, name, rename, hide, remove }, object) {
    const isActive = object === prompts.current;
    node.dataset.selected = String(isActive);
    node.dataset.hidden = String(object.hidden);
    name.setAttribute("aria-pressed", String(isActive));
    name.firstChild.style.setProperty("--swatch", object.color);
    name.lastChild.textContent = object.name;
    nameButton(rename, `Rename ${object.name}`);
    nameButton(hide, `${object.hidden ? "Show" : "Hide"} ${object.name}`);
    hide.querySelector("path").setAttribute("d", ICONS[object.hidden ? "hidden" : "eye"]);
    nameButton(remove, `Delete ${object.name}`);
  }

  function nameButton(button, label) {
    button.setAttribute("aria-label", label);
    button.title = label;
  }

  function showRows() {
    for (const [id, { node }] of rows) {
      if (prompts.find(id)) continue;
      rows.delete(id);
      node.remove();
    }
    prompts.all.forEach((object, index) => {
      if (!rows.has(object.id)) rows.set(object.id, makeRow(object.id));
      const row = rows.get(object.id);
      const there = parts.objectList.children[index];
      if (row.node !== there) parts.objectList.insertBefore(row.node, there ?? null);
      fillRow(row, object);
    });
  }

  function show() {
    const hadFocus = parts.objectList.contains(document.activeElement);
    showRows();
    parts.noObjects.hidden = prompts.all.length > 0;
    setDisabled(parts.removeAll, prompts.all.length === 0);
    setDisabled(parts.newObject, !view.photo || prompts.all.length === 0);
    if (hadFocus && !parts.objectList.contains(document.activeElement)) {
      (parts.objectList.querySelector("[data-selected=true] button") || parts.stage).focus();
    }
    if (prompts.current?.id !== revealedId) reveal();
    showLook();
  }

  // Bring the selected object into sight in the list; the page itself stays.
  function reveal() {
    revealedId = prompts.current?.id ?? null;
    const chosen = parts.objectList.querySelector("[data-selected=true]");
    if (!chosen) return;
    const box = parts.objectList.parentElement;
    box.scrollTop = clamp(box.scrollTop, chosen.offsetTop + chosen.offsetHeight - box.clientHeight, chosen.offsetTop);
  }

  function showLook() {
    const object = prompts.current;
    for (const button of parts.colors) {
      const isChosen = button.dataset.color === object?.color;
      button.setAttribute("aria-checked", String(isChosen));
      setDisabled(button, !object);
    }
    const tabStop = parts.colors.find((button) => button.getAttribute("aria-checked") === "true") || parts.colors[0];
    for (const button of parts.colors) button.tabIndex = button === tabStop ? 0 : -1;
    for (const [name, { input, output, unit }] of Object.entries(parts.refine)) {
      const pixels = object?.refine[name] ?? 0;
      setDisabled(input, !object);
      if (pixelsOf(input, unit) !== pixels) input.value = String(sliderOf(pixels, unit));
      output.textContent = pixels ? `${pixels.toLocaleString("en-US")} px` : "off";
      input.setAttribute("aria-valuetext", output.textContent);
    }
  }

  function endRefining() {
    if (!isRefining) return;
    isRefining = false;
    page.settle();
  }

  // Sliders are finer where pixels are few; their ends suit the photo's size.
  function largest(unit) {
    const { width, height } = view.photo || { width: 1, height: 1 };
    return unit === "area" ? 0.02 * width * height : Math.min(50, 0.015 * Math.max(width, height));
  }

  function pixelsOf(input, unit) {
    const share = Number(input.value) / Number(input.max);
    const pixels = (unit === "area" ? share ** 3 : share ** 2) * largest(unit);
    return unit === "area" ? Math.ceil(pixels) : Math.ceil(pixels * 10) / 10;
  }

  function sliderOf(pixels, unit) {
    const share = Math.min(1, pixels / largest(unit));
    return unit === "area" ? Math.round(100 * share ** (1 / 3)) : Math.round(40 * Math.sqrt(share));
  }

  function rename(id) {
    const name = rows.get(id)?.name;
    if (!name?.isConnected) return; // it is being renamed, or gone
    const object = prompts.find(id);
    const input = make("input", { type: "text", class: "ms-rename", "aria-label": `New name of ${object.name}`, maxlength: "80", value: object.name });
    const origin = document.activeElement === parts.stage ? parts.stage : name; // of the focus
    let isOver = false;
    const end = (isKept) => {
      if (isOver) return;
      isOver = true;
      const hadFocus = document.activeElement === input;
      input.replaceWith(name);
      if (isKept) prompts.rename(id, input.value);
      if (hadFocus) origin.focus({ preventScroll: origin === parts.stage });
    };
    name.replaceWith(input);
    input.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.isComposing || event.keyCode === 229) return; // the key is the input method's
      if (event.key === "Enter") end(true);
      if (event.key === "Escape") end(false);
    });
    input.addEventListener("blur", () => end(true));
    input.focus();
    input.select();
  }

  const deeds = {
    select: (id) => prompts.select(id),
    rename: (id) => rename(id),
    hide: (id) => prompts.setHidden(id, !prompts.find(id).hidden),
    remove: (id) => prompts.remove(id),
  };

  parts.objectList.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) deeds[button.dataset.do](Number(button.closest(".ms-object").dataset.object));
  });
  parts.objectList.addEventListener("dblclick", (event) => {
    if (event.target.closest(".ms-object-name")) rename(Number(event.target.closest(".ms-object").dataset.object));
  });
  for (const button of parts.colors) {
    button.addEventListener("click", () => prompts.recolor(prompts.current.id, button.dataset.color));
  }
  parts.opacity.addEventListener("input", () => {
    look.opacity = Number(parts.opacity.value) / 100;
    parts.opacityText.textContent = `${parts.opacity.value} %`;
    parts.opacity.setAttribute("aria-valuetext", parts.opacityText.textContent);
    view.redraw("mask");
  });
  for (const [name, { input, unit }] of Object.entries(parts.refine)) {
    input.addEventListener("input", () => {
      if (!prompts.current) return showLook(); // the slider goes back
      if (!isRefining) prompts.remember();
      isRefining = true;
      prompts.refine({ ...prompts.current.refine, [name]: pixelsOf(input, unit) });
      showLook();
    });
    // A slider that ends where it began tells of no change.
    for (const end of ["change", "pointerup", "pointercancel", "keyup", "blur"]) input.addEventListener(end, endRefining);
  }
  arrowsMove(parts.colors[0].parentElement);

  return {
    show,
    reveal,
    rename: () => prompts.current && rename(prompts.current.id),
  };
}
