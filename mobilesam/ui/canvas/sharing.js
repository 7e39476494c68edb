// Links that bring others to what is on the screen, and the objects that a photo opens with.

function createSharing(parts, view, prompts, page, examples) {
  let pending = null; // a link's prompts that wait for a photo of their size
  let timer = 0;

  function exampleShown() {
    return examples.find(({ name }) => name === view.photo?.title)?.name ?? null;
  }

  function hash() {
    const { width, height, title } = view.photo;
    const objects = prompts.toWire();
    const active = prompts.all.indexOf(prompts.current);
    const example = view.photo.isExample ? exampleShown() : null;
    return writeLink({ example, size: [width, height], title, model: page.model, objects, active });
  }

  // What is on the screen; null while a link waits for its photo and nothing else was done.
  function snapshot() {
    const isUntouched = pending && (prompts.isPreset || !prompts.hasAny);
    return view.photo && !isUntouched ? { hash: hash(), isPreset: prompts.isPreset } : null;
  }

  // The objects of the visitor's own photo, as a link, which outlives the page, and with every step;
  // null where there are none that could be lost. `prompts`: what tells whether they have changed since,
  // though another model has forgotten what was chosen.
  function ownWork() {
    const isOwn = view.photo && !view.photo.isExample && prompts.hasAny;
    if (!isOwn) return null;
    const told = prompts.toWire().map(({ choices, ...rest }) => rest);
    return { hash: hash(), history: prompts.history(), prompts: JSON.stringify(told) };
  }

  // The page's own address without what is this visitor's only: the theme, and the signature that
  // Hugging Face lets into a private Space by.
  function address() {
    const { origin, pathname, searchParams } = new URL(location.href);
    for (const name of [...searchParams.keys()]) if (name.startsWith("__")) searchParams.delete(name);
    return origin + pathname + (String(searchParams) && `?${searchParams}`);
  }

  async function copy() {
    const label = parts.share.querySelector("span");
    const link = hash();
    const text = address() + link;
    history.replaceState(null, "", link);
    const isOwn = !view.photo.isExample;
    const isCopied = await toClipboard(text);
    const isInFrame = window.parent !== window; // whose address nobody sees
    const elsewhere = isInFrame ? "See the message" : "It is in the address bar";
    label.textContent = isCopied ? "Link copied" : elsewhere;
    clearTimeout(timer);
    timer = setTimeout(() => (label.textContent = "Copy link"), 2500);
    const instead = isInFrame ? `This browser lets the page copy nothing; the link is ${text}` : "The link is in the address bar.";
    const done = isCopied ? "The link is copied." : instead;
    const what = isOwn ? " It holds prompts and settings only: your photo stays here, so send it along." : "";
    page.announce(done + what);
    if (isOwn || (isInFrame && !isCopied)) page.say(done + what, "share");
  }

  // What a link asks for, in the order of its effects: model, then photo, then objects.
  function follow({ state }) {
    const work = ownWork(); // another model forgets what was chosen among the candidates
    page.setModel(state.model);
    pending = state;
    if (state.example !== null) {
      if (examples.some(({ name }) => name === state.example)) return page.open({ example: state.example, work });
      pending = null;
      openFirst(`The link shows the example ${state.example}, which is not on this server; choose another.`);
    } else if (isOpen(state)) {
      const { objects, active } = objectsFor({}, view.photo);
      prompts.reset(objects, active);
      page.hush();
      page.setAside(work);
    } else {
      const [width, height] = state.size;
      const name = state.title ? ` (${state.title})` : "";
      openFirst(`This link holds prompts for a photo of ${width} × ${height} pixels${name}. Open that photo, and they are applied.`, "link");
    }
  }

  // As a link does, after the page was loaded again or to go back: with the visitor's own photo, if
  // there was one, and with its `history`, if that is here.
  function resume({ state, isPreset }, file, history = null) {
    const { example } = state;
    const work = ownWork();
    page.setModel(state.model);
    if (isPreset && examples.some(({ name }) => name === example)) return page.open({ example });
    if (example !== null) return follow({ state });
    pending = { ...state, history, file };
    if (file) return page.open({ file, work });
    openFirst("This page was loaded again and your photo could not be kept. Open it, and its objects are back.", "link");
  }

  // A file chosen again is another object; many photos have the same size in pixels.
  function isSameFile(one, other) {
    return one.name === other?.name && one.size === other.size;
  }

  // Whether a photo of the visitor's is open that a link's prompts may be for.
  function isOpen({ size: [width, height] }) {
    return view.photo && !view.photo.isExample && view.photo.width === width && view.photo.height === height;
  }

  // Opening a photo takes the notice away: what is to be said comes after.
  function openFirst(text = "", kind = "share") {
    if (examples.length && !view.photo) page.open({ example: examples[0].name });
    if (text) page.say(text, kind);
  }

  function start() {
    const read = readLink(location.hash);
    if (read?.state) return follow(read);
    openFirst(read?.error);
  }

  // The objects that a photo opens with: a link's, or an example's own.
  function objectsFor({ example, file }, { width, height }) {
    if (pending?.file && !isSameFile(pending.file, file)) pending = null; // it is set aside
    const isMeant = pending && (pending.example ?? undefined) === example;
    if (isMeant && pending.size[0] === width && pending.size[1] === height) {
      const { objects, active, history } = pending;
      const wasOwn = pending.example === null;
      pending = null;
      page.unsay("link");
      if (wasOwn) page.announce("The photo's objects are here.");
      return { objects, active, isPreset: false, history };
    }
    if (isMeant) {
      page.say(`This photo is ${width} × ${height}; the link's prompts are for one of ${pending.size.join(" × ")} and were not applied; open that photo for them.`, "share");
    }
    const { objects = [], hint = "" } = examples.find(({ name }) => name === example) ?? {};
    return { objects, active: objects.length - 1, isPreset: true, hint };
  }

  // The model that chose among a link's candidates is not here.
  function forgetChoices() {
    if (!pending) return;
    const objects = pending.objects.map((object) => ({ ...object, choices: [] }));
    pending = { ...pending, objects, history: null };
  }

  // Not the address as it is: the page may have written what it shows there since.
  addEventListener("hashchange", ({ newURL }) => {
    const read = readLink(new URL(newURL).hash);
    if (!parts.host.isConnected) return;
    if (read?.state) follow(read);
    else if (read?.error) page.say(read.error, "share");
  });

  return { copy, start, resume, snapshot, ownWork, objectsFor, forgetChoices };
}
