// The masks of the selected object to choose from: thumbnails with what the model thinks of each.
// Choosing one asks nobody: all of them are here.

const THUMB_HEIGHT = 104; // device pixels: twice the height on the page
const USUAL_SLOTS = 3; // masks that a lone click gets; other prompts get one more
const UNSURE_SCORE = 0.6; // below it the visitor is told what helps
const SIZE_NAMES = ["Whole", "Part", "Sub-part"];

// What the masks are called, and their indices, in the order they are shown: by size; where there
// are four, the first one is the model's own answer to all prompts together.
function candidatesInOrder(masks) {
  const first = masks.length > SIZE_NAMES.length || masks.length === 1 ? 1 : 0;
  const bySize = masks.map((_, index) => index).slice(first).sort((one, other) => masks[other].area - masks[one].area);
  const sized = bySize.map((index, place) => ({ index, name: SIZE_NAMES[place] }));
  return first ? [{ index: 0, name: "Best fit" }, ...sized] : sized;
}

function createCandidates(parts, view, prompts, page) {
  let isComplete = false; // every mask of the selected object can be drawn

  function masksOf(object) {
    return prompts.maskOf(object) ? object.result.masks : [];
  }

  // The part of the photo that thumbnails show: all masks with some room round them, or as much of
  // the photo as has the thumbnails' shape. In shares of the photo's sides.
  function thumbnailWindow(masks, aspect) {
    const { width, height } = view.photo;
    const boxes = masks.filter(({ area }) => area > 0).map(({ box }) => box);
    if (!boxes.length) boxes.push([0, 0, width, height]);
    const [left, top] = [0, 1].map((side) => Math.min(...boxes.map((box) => box[side])));
    const [right, bottom] = [2, 3].map((side) => Math.max(...boxes.map((box) => box[side])));
    const room = 0.12 * Math.max(right - left, bottom - top, 0.3 * Math.min(width, height));
    const spanX = right - left + 2 * room;
    const spanY = bottom - top + 2 * room;
    const middle = { x: (left + right) / 2, y: (top + bottom) / 2 };
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
    const source = view.sourceFor(place.width / part.width, place.height / part.height);
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
    draw(source);
    context.globalCompositeOperation = "destination-over";
    context.globalAlpha = 0.22;
    draw(source);
    return canvas;
  }

  function button(mask, index, name, part, width) {
    const share = percentText(mask.area / (view.photo.width * view.photo.height));
    const isChosen = index === prompts.chosenOf(prompts.current);
    return make(
      "button",
      {
        type: "button",
        role: "radio",
        class: "ms-candidate",
        "aria-checked": String(isChosen),
        tabindex: isChosen ? "0" : "-1",
        "data-index": index,
        "aria-label": `${name}: score ${scoreText(mask.score)}, stability ${scoreText(mask.stability)}, ${share} of the photo`,
        title: "Score: the model's estimate of the overlap (predicted IoU). Stability: how little the mask depends on where its edge is cut.",
      },
      thumbnail(mask.alpha, part, width),
      make("b", {}, name),
      make("span", {}, `score ${scoreText(mask.score)}`),
      make("span", {}, `stable ${scoreText(mask.stability)}`),
      make("span", {}, share),
    );
  }

  function show() {
    const object = prompts.current;
    const masks = masksOf(object);
    isComplete = masks.every(({ alpha }) => alpha);
    if (!isComplete) return showVerdict(); // the thumbnails follow
    const slots = masks.length || USUAL_SLOTS;
    parts.candidates.classList.toggle("ms-four", slots > USUAL_SLOTS);
    const slotWidth = (parts.candidates.clientWidth + 8) / slots - 18; // less gap, frame, padding
    const width = Math.round(clamp((slotWidth / 52) * THUMB_HEIGHT, 72, 2 * THUMB_HEIGHT));
    const part = masks.length ? thumbnailWindow(masks, width / THUMB_HEIGHT) : null;
    const order = masks.length ? candidatesInOrder(masks) : [];
    const buttons = order.map(({ index, name }) => button(masks[index], index, name, part, width));
    while (buttons.length < slots) buttons.push(make("span", { class: "ms-slot", "aria-hidden": "true" }));
    const hadFocus = parts.candidates.contains(document.activeElement);
    parts.candidates.replaceChildren(...buttons);
    parts.candidatesOf.textContent = masks.length ? object.name : "";
    if (hadFocus) (parts.candidates.querySelector("[aria-checked=true]") || parts.stage).focus();
    showVerdict();
  }

  // A low score in words.
  function showVerdict() {
    const mask = prompts.maskOf(prompts.current);
    const isUnsure = mask && (mask.score < UNSURE_SCORE || mask.area === 0);
    const advice = mask?.area === 0 ? "Nothing found here: click elsewhere, or draw a box." : `Unsure: add a point${prompts.box ? "" : " or draw a box"}.`;
    parts.verdict.textContent = isUnsure ? advice : "";
  }

  function choose(index) {
    const isOld = !masksOf(prompts.current).length || prompts.isOutdated(prompts.current);
    if (!isComplete || isOld) return; // the buttons are still the old masks'
    prompts.choose(index);
    for (const entry of parts.candidates.querySelectorAll("button")) {
      const isChosen = Number(entry.dataset.index) === index;
      entry.setAttribute("aria-checked", String(isChosen));
      entry.tabIndex = isChosen ? 0 : -1;
    }
    view.redraw("mask");
    showVerdict();
    const order = candidatesInOrder(prompts.current.result.masks);
    const place = order.findIndex((entry) => entry.index === index);
    page.chosen(`${order[place].name}, mask ${place + 1} of ${order.length}, chosen.`);
  }

  parts.candidates.addEventListener("click", (event) => {
    const entry = event.target.closest(".ms-candidate");
    if (entry) choose(Number(entry.dataset.index));
  });
  arrowsMove(parts.candidates);

  return { show };
}
