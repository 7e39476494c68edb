// The line over the photo that says what a click does: at its foot, or at its top where it would
// cover points or the box.

const MARK_REACH = 12; // CSS pixels round the middle of a point, a handle or the box's badge

function createHint(parts, view, prompts, page) {
  const { hint } = parts;

  function isFirstPoint() {
    return !prompts.isPreset && prompts.points.length === 1 && !prompts.box;
  }

  function sentence() {
    if (page.tool !== "include") return TOOLS.find(({ name }) => name === page.tool).hint;
    const isTouch = matchMedia("(pointer: coarse)").matches;
    if (isFirstPoint()) return isTouch ? "Another tap refines it; New\u00a0object starts the next." : "Another click refines it; N starts the next object.";
    if (prompts.isPreset && view.photo?.hint) return view.photo.hint;
    return isTouch
      ? "Tap what you want. Hold to leave a spot out."
      : "Click what you want. Drag for a box. Right-click leaves something out.";
  }

  function isUseful() {
    if (page.tool === "pan" || page.tab === "everything" || page.isFull) return false;
    if (page.tab === "compare" && !prompts.isEmpty) return false; // the photo is small there
    if (page.state !== "ready" && page.state !== "encoding") return false;
    return prompts.isEmpty || prompts.isPreset || (page.tool === "include" && isFirstPoint());
  }

  function covered() {
    const { left, top } = parts.stage.getBoundingClientRect();
    const bounds = hint.getBoundingClientRect();
    const marks = [...prompts.points.map(({ x, y }) => view.toStage({ x: x + 0.5, y: y + 0.5 })), ...view.boxHandles(), view.boxBadge()];
    return marks.filter((mark) => mark
      && mark.x > bounds.left - left - MARK_REACH && mark.x < bounds.right - left + MARK_REACH
      && mark.y > bounds.top - top - MARK_REACH && mark.y < bounds.bottom - top + MARK_REACH).length;
  }

  function place() {
    hint.classList.remove("ms-high");
    if (hint.hidden || !view.photo || !parts.busy.hidden || !parts.notice.hidden) return;
    const count = covered();
    if (!count) return;
    hint.classList.add("ms-high");
    if (covered() >= count) hint.classList.remove("ms-high");
  }

  function show() {
    hint.textContent = sentence();
    hint.hidden = !isUseful();
    place();
  }

  return { show, place };
}
