// Masks that have come: on the stage first, then everything beside it that tells of them.

function createResults(parts, view, prompts, page) {
  // What stands beside the photo about the masks that are here.
  function show() {
    page.panel.showStatus();
    page.panel.showSaves();
    page.objectList.show();
    page.candidates.show();
    page.lines.show();
    showData();
  }

  function showData() {
    const { dataset } = parts.root;
    dataset.points = JSON.stringify(prompts.points.map(({ x, y, label }) => [x, y, label]));
    dataset.box = JSON.stringify(prompts.box);
    dataset.objects = JSON.stringify(prompts.toWire());
  }

  // The candidates that are not on the screen are decoded when those that are have been painted.
  // One that this browser has no memory for is missing until it is looked at again.
  async function complete(object) {
    const decoded = (mask) => mask.alpha ?? decodeMask(mask.png).catch(() => null);
    for (const other of prompts.all) {
      const mask = prompts.maskOf(other);
      if (mask) mask.alpha = await decoded(mask);
    }
    const masks = object?.result?.masks ?? [];
    if (masks.every(({ alpha }) => alpha)) return view.redraw("mask");
    for (const mask of masks) mask.alpha = await decoded(mask);
    if (object === prompts.current) page.candidates.show();
    view.redraw("mask");
  }

  // `asked`: what the masks were asked for, by object.
  async function paint(answer, asked, askedAt, isCurrent) {
    const good = answer.objects.filter(({ id, status }) => status === "ok" && asked.has(id) && prompts.find(id));
    for (const { id, masks, best } of good) {
      const object = prompts.find(id);
      if (!object) continue; // undone while others were decoded
      const mask = masks[prompts.indexFor(object, masks, best)];
      mask.alpha = await decodeMask(mask.png);
    }
    if (!isCurrent()) return;
    for (const { id, masks, best, decode_ms: decodeMs } of good) {
      prompts.setResult(id, { key: asked.get(id), masks, best, decodeMs });
    }
    page.answeredBy(answer.model);
    markStale(false);
    page.unsay("ask");
    const refused = answer.objects.filter(({ status }) => status !== "ok");
    for (const { id, text } of refused) {
      prompts.setRefused(id, asked.get(id));
      page.say(text, "ask");
    }
    painted(answer.rev, askedAt, isCurrent);
  }

  // Masks that are here get on the screen.
  function painted(rev, askedAt, isCurrent) {
    view.redraw("mask");
    view.whenPainted(() => {
      parts.root.dataset.paintedRev = rev;
      parts.root.dataset.paintMs = (performance.now() - askedAt).toFixed(1);
      parts.root.classList.remove("ms-waiting");
      performance.measure("mobilesam:click-to-mask", { start: askedAt, end: performance.now() });
      setTimeout(() => describe(rev, isCurrent), 0); // the mask is what the eye waits for
    });
  }

  async function describe(rev, isCurrent) {
    if (!isCurrent()) return;
    const mask = prompts.maskOf(prompts.current);
    if (mask) {
      const share = mask.area / (view.photo.width * view.photo.height);
      page.announce(`Mask: ${percentText(share)} of the photo, score ${scoreText(mask.score)}.`);
    }
    show();
    await complete(prompts.current);
    if (isCurrent()) parts.root.dataset.shownRev = rev;
  }

  // Masks of a model that is no longer chosen are greyed until the new one's are there.
  function markStale(isStale) {
    page.facts.isStale = isStale;
    parts.root.classList.toggle("ms-stale", isStale);
  }

  return { show, showData, complete, paint, painted, markStale };
}
