// What is left of the side and the foot of the page: status line, downloads, the hidden list of
// points, examples, models and tabs.

// Arrow keys move within a group of radio buttons or tabs, as everywhere on the web; they pass over
// those that can do nothing now.
function arrowsMove(group, role = "radio") {
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const buttons = [...group.querySelectorAll(`[role=${role}]:not([aria-disabled=true])`)];
    const index = buttons.indexOf(document.activeElement);
    if (index < 0) return;
    event.preventDefault();
    const next = buttons[(index + step + buttons.length) % buttons.length];
    next.focus();
    next.click();
  });
}

function createPanel(parts, view, prompts, page) {
  let making = []; // the buttons whose files are being made
  let makingText = "";
  let listed = ""; // the models to choose from
  let credits = new Map(); // of the examples, by name

  function showStatus() {
    const { facts } = page;
    const object = prompts.current;
    const isHidden = page.tab === "everything"; // behind the masks that are found
    const mask = facts.isStale || isHidden ? null : prompts.maskOf(object);
    const ofModel = [facts.modelTitle];
    if (facts.encodeMs != null) ofModel.push(`encoded in ${timeText(facts.encodeMs)}`);
    if (mask) ofModel.push(`decoded in ${timeText(object.result.decodeMs)}`);
    const ofMask = [];
    if (mask) {
      const share = mask.area / (view.photo.width * view.photo.height);
      ofMask.push(`area ${countText(mask.area)} px (${percentText(share)})`, `score ${scoreText(mask.score)}`);
    }
    const [model, numbers] = [ofModel, ofMask].map((pieces) => pieces.filter(Boolean).map((piece) => make("span", {}, piece)));
    parts.status.replaceChildren(make("span", { class: "ms-of-model" }, ...model), make("span", { class: "ms-of-mask" }, ...numbers));
    showExample();
  }

  // Which of the examples is open, and whose photo it is.
  function showExample() {
    const open = view.photo?.isExample ? view.photo.title : null;
    for (const button of parts.examples.querySelectorAll(".ms-example")) button.setAttribute("aria-current", String(button.dataset.example === open));
    const { credit, source } = credits.get(open) ?? {};
    const text = credit ? `Photo: ${credit}` : "";
    const shown = parts.credit.querySelector("a")?.getAttribute("href") ?? "";
    if (parts.credit.textContent === text && shown === (source ?? "")) return; // the link may have the focus
    const link = source && make("a", { href: source, target: "_blank", rel: "noopener" }, text);
    parts.credit.replaceChildren(link || text);
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
    const hadFocus = parts.list.contains(document.activeElement);
    parts.list.replaceChildren(...entries);
    if (hadFocus) (parts.list.querySelector("button") ?? parts.stage).focus();
  }

  // Files are being made for these buttons; `text` says so, "" where none is.
  function showMaking(buttons, text) {
    making = buttons;
    makingText = text;
    for (const button of parts.saves) button.setAttribute("aria-busy", String(making.includes(button)));
    showSaves();
  }

  function showSaves() {
    const selected = prompts.maskOf(prompts.current);
    const masked = prompts.all.filter((object) => prompts.maskOf(object));
    const any = masked.some((object) => !object.hidden);
    for (const button of parts.saves) {
      const { save, detail } = button.dataset;
      const isOfOne = save === "mask" || save === "cutout";
      setDisabled(button, !(isOfOne ? selected : any) || making.includes(button));
      button.title = masked.length && !any && !isOfOne ? "All objects are hidden: show one to save it" : `Save: ${detail}`;
    }
    parts.saveSize.classList.toggle("ms-making", makingText !== "");
    parts.saveSize.title = makingText; // the line may be too short for it
    parts.saveSize.textContent = makingText || (view.photo ? `${view.photo.width} × ${view.photo.height}` : "");
    setDisabled(parts.share, !view.photo);
  }

  function showExamples(examples) {
    credits = new Map(examples.map(({ name, credit, source }) => [name, { credit, source }]));
    const buttons = examples.map(({ name, title, hint, thumbnail }) =>
      make(
        "button",
        { type: "button", class: "ms-example", "data-example": name, title: hint ? `${title}: ${hint}` : title, "aria-label": `Example: ${title}. ${hint || ""}`.trim() },
        make("img", { src: thumbnail, alt: "", loading: "lazy", draggable: "false" }),
      ),
    );
    const heading = buttons.length ? [make("span", { class: "ms-examples-title" }, "Try")] : [];
    parts.examples.replaceChildren(...heading, ...buttons);
  }

  function showModels(models, current) {
    const { choices, standard, fetching, percent } = models;
    const notice = current === standard ? models.notice : ""; // it is about the standard model
    const wanted = JSON.stringify(choices.map(({ name, title }) => [name, title]));
    if (listed !== wanted) {
      // not at each word of a download: the list may be open
      const options = choices.map(({ name, title }) => make("option", { value: name }, title));
      parts.model.replaceChildren(...options);
      listed = wanted;
    }
    if (parts.model.value !== current) parts.model.value = current;
    parts.model.hidden = choices.length < 2;
    parts.modelName.hidden = choices.length > 1;
    parts.modelName.textContent = choices.find(({ name }) => name === current)?.title || "";
    const news = percent == null ? notice : `Fetching the official ${fetching}`;
    if (parts.modelNews.textContent !== news) parts.modelNews.textContent = news; // the same text is told again
    parts.modelShare.textContent = percent == null ? "" : `: ${percent} %`;
    parts.modelNote.tabIndex = news ? 0 : -1;
  }

  function showTab(name) {
    for (const tab of parts.tabs) {
      const isChosen = tab.dataset.tab === name;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
    }
    for (const [key, panel] of Object.entries(parts.panels)) panel.hidden = key !== name;
    showStatus();
  }

  for (const button of parts.saves) button.addEventListener("click", () => page.save(button));
  parts.list.addEventListener("click", (event) => {
    const which = event.target.closest("button")?.dataset.point;
    if (which === "box") prompts.setBox(null);
    else if (which !== undefined) prompts.removePoint(Number(which));
    (parts.list.querySelector("button") || parts.stage).focus();
  });
  parts.examples.addEventListener("click", (event) => {
    const name = event.target.closest(".ms-example")?.dataset.example;
    if (name) page.open({ example: name });
  });
  for (const tab of parts.tabs) {
    tab.addEventListener("click", ({ detail }) => {
      page.setTab(tab.dataset.tab);
      if (detail) page.revealTab(); // not of a key, which goes on from the tab
    });
  }
  arrowsMove(parts.tabs[0].parentElement, "tab");
  arrowsMove(parts.tools[0].parentElement);

  return { showExamples, showModels, showStatus, showList, showMaking, showSaves, showTab };
}
