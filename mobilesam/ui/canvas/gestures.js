// Pointer gestures on the stage, for mouse, pen and touch alike.

const LONG_PRESS_MS = 500;
const DOUBLE_CLICK_MS = 500; // the second press means the point that the first one made

function attachGestures(parts, view, prompts, page) {
  const { stage } = parts;
  const pointers = new Map(); // pointer id → stage position
  let penId = null; // the pen that is down: fingers do nothing then, they hold the hand
  let gesture = null;
  let pinch = null;
  let pressTimer = 0;
  let spaceHeld = false;
  let trackpadScale = 1; // of Safari's pinch so far

  function positionOf(event) {
    const bounds = stage.getBoundingClientRect();
    return { x: event.clientX - bounds.left, y: event.clientY - bounds.top };
  }

  function isOnStage(event) {
    return event.target instanceof Node && !event.target.closest?.("button");
  }

  // What lies under a position: the box's badge, a handle, a point, or nothing.
  function hit(at, isTouch) {
    const reach = isTouch ? 22 : 12;
    const far = (entry) => distance(entry, at);
    const handles = view.boxHandles().filter((entry) => far(entry) <= (isTouch ? 20 : 10));
    const handle = handles.sort((one, other) => far(one) - far(other))[0];
    const badge = view.boxBadge();
    if (badge && far(badge) <= Math.min(reach, handle ? far(handle) : reach)) return { kind: "badge" };
    for (let index = prompts.points.length - 1; index >= 0; index -= 1) {
      const point = prompts.points[index];
      const place = view.toStage({ x: point.x + 0.5, y: point.y + 0.5 });
      if (far(place) <= reach) return { kind: "point", index };
    }
    return handle ? { kind: "handle", handle } : null;
  }

  function begin(event, at) {
    const isTouch = event.pointerType === "touch";
    const isRight = event.button === 2 || (event.button === 0 && event.ctrlKey); // as on a Mac
    const slack = isTouch ? 10 : isRight ? 12 : 4; // how far a click may stray
    const base = { at, from: at, start: view.toPhoto(at), isTouch, slack, moved: false, id: event.pointerId, startedAt: performance.now() };
    if (event.button === 1 || spaceHeld || page.tool === "pan") return { ...base, kind: "pan" };
    if (page.tab === "everything") return { ...base, kind: "pick", isRight };
    const target = hit(at, isTouch);
    if (isRight) return { ...base, kind: "press", label: 0 };
    if (target && event.button === 0) return { ...base, ...target };
    const label = event.shiftKey || page.tool === "exclude" ? 0 : 1;
    if (page.tool === "sketch") return { ...base, kind: "stroke", label, path: [base.start] };
    if (event.pointerType !== "mouse" && page.tool !== "box") {
      pressTimer = setTimeout(() => longPress(at), LONG_PRESS_MS);
    }
    if (isTouch && page.tool !== "box") return { ...base, kind: "touch", label };
    return { ...base, kind: "press", label, canDrag: event.button === 0 };
  }

  function longPress(at) {
    if (!gesture || (gesture.kind !== "touch" && gesture.kind !== "press")) return;
    gesture = { ...gesture, kind: "done" };
    navigator.vibrate?.(15);
    page.addPoint(view.toPhoto(at), 0);
  }

  function onDown(event) {
    if (!view.photo || page.isOpening || !isOnStage(event)) return;
    if (event.pointerType === "touch" && penId !== null) return;
    if (event.button > 2) return; // back, forward, a pen's eraser
    stage.focus({ preventScroll: true });
    page.hideCursor();
    const at = positionOf(event);
    if (event.pointerType === "pen") {
      penId = event.pointerId;
      pointers.clear();
      pinch = null;
      cancel();
    }
    pointers.set(event.pointerId, at);
    stage.setPointerCapture(event.pointerId);
    if (pointers.size === 2) {
      cancel();
      pinch = measurePinch();
    } else if (pointers.size === 1) {
      gesture = begin(event, at);
      if (event.pointerType === "mouse") event.preventDefault();
    }
  }

  function onMove(event) {
    const at = positionOf(event);
    if (!pointers.has(event.pointerId)) {
      if (event.pointerType !== "touch") hover(at);
      return;
    }
    pointers.set(event.pointerId, at);
    if (pinch && pointers.size === 2) return movePinch();
    if (gesture?.id !== event.pointerId) return;
    for (const place of gesture.kind === "stroke" ? placesOf(event) : [at]) moveGesture(place);
  }

  // A browser that is busy makes one of several moves, which would cut a stroke's corners.
  function placesOf(event) {
    const moves = event.getCoalescedEvents?.() ?? [];
    return (moves.length ? moves : [event]).map(positionOf);
  }

  function measurePinch() {
    const [a, b] = [...pointers.values()];
    return { span: distance(a, b), middle: { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 } };
  }

  function movePinch() {
    const { span, middle } = measurePinch();
    view.panBy(middle.x - pinch.middle.x, middle.y - pinch.middle.y);
    view.zoomBy(span / Math.max(1, pinch.span), middle);
    pinch = { span, middle };
    page.zoomChanged();
  }

  function moveGesture(at) {
    const started = !gesture.moved && distance(at, gesture.from) > gesture.slack;
    if (started) {
      gesture.moved = true;
      clearTimeout(pressTimer);
      if (gesture.kind === "pick" || (gesture.kind === "touch" && view.isZoomed)) gesture.kind = "pan";
      if (gesture.kind === "point" || gesture.kind === "handle") prompts.remember();
    }
    const last = gesture.at;
    gesture.at = at;
    if (gesture.kind === "stroke") {
      if (distance(at, view.toStage(gesture.path[gesture.path.length - 1])) >= 3) {
        gesture.path.push(view.toPhoto(at));
      }
      view.live.stroke = gesture.path;
      view.redraw("marks");
    }
    if (!gesture.moved) return;
    const position = view.toPhoto(at);
    if (gesture.kind === "pan") view.panBy(at.x - last.x, at.y - last.y);
    else if (gesture.kind === "press" && gesture.canDrag) {
      view.live.band = boxBetween(gesture.start, position, view.photo);
      view.redraw("marks");
    } else if (gesture.kind === "point") {
      prompts.movePoint(gesture.index, pixelAt(position, view.photo));
    } else if (gesture.kind === "handle") moveHandle(position);
  }

  function moveHandle(position) {
    if (!prompts.box) return;
    const box = [...prompts.box];
    const [sideX, sideY] = gesture.handle.sides;
    const { width, height } = view.photo;
    if (sideX === 0) box[0] = clamp(Math.round(position.x), 0, box[2] - 1);
    if (sideX === 2) box[2] = clamp(Math.round(position.x), box[0] + 1, width);
    if (sideY === 1) box[1] = clamp(Math.round(position.y), 0, box[3] - 1);
    if (sideY === 3) box[3] = clamp(Math.round(position.y), box[1] + 1, height);
    prompts.reshapeBox(box);
  }

  function onUp(event) {
    if (event.pointerId === penId) penId = null;
    if (!pointers.delete(event.pointerId)) return;
    if (pinch) return leavePinch();
    if (!gesture || gesture.id !== event.pointerId) return;
    const ended = gesture;
    cancel();
    finish(ended);
  }

  // A finger has left; with two others it goes on between them.
  function leavePinch() {
    if (pointers.size === 2) pinch = measurePinch();
    else if (pointers.size === 0) pinch = null;
  }

  function finish(ended) {
    const position = view.toPhoto(ended.at);
    if (ended.kind === "pick") ended.isRight || page.pick(position);
    else if (ended.kind === "badge" && !ended.moved) prompts.setBox(null);
    else if (ended.kind === "point" && !ended.moved) pressPoint(ended);
    else if (ended.kind === "stroke") page.addStroke(ended.path, ended.label);
    else if ((ended.kind === "press" || ended.kind === "touch") && !ended.moved) {
      page.addPoint(position, ended.label);
    } else if (ended.kind === "press" && ended.canDrag) {
      page.addBox(ended.start, position);
    } else if (ended.moved && (ended.kind === "point" || ended.kind === "handle")) page.settle();
  }

  function pressPoint({ index, startedAt }) {
    const point = prompts.points[index];
    if (point && startedAt - point.addedAt > DOUBLE_CLICK_MS) prompts.removePoint(index);
  }

  function cancel() {
    clearTimeout(pressTimer);
    gesture = null;
    view.live.band = null;
    view.live.stroke = null;
    view.redraw("marks");
  }

  // Another photo, or a change that was not drawn here: what is under way was of what is gone.
  function giveWay() {
    if (gesture && gesture.kind !== "pan") cancel();
  }

  // Escape, Undo or Redo: nothing is drawn, and what was moved is where it was.
  function giveUp() {
    const isMoved = gesture.moved && (gesture.kind === "point" || gesture.kind === "handle");
    cancel();
    if (isMoved) prompts.undo();
  }

  function onCancel(event) {
    if (event.pointerId === penId) penId = null;
    pointers.delete(event.pointerId);
    if (pinch) leavePinch();
    const moved = gesture?.moved && (gesture.kind === "point" || gesture.kind === "handle");
    cancel();
    if (moved) page.settle();
  }

  // `at`: null where the pointer has left.
  function hover(at) {
    const isOver = Boolean(at && view.photo) && page.tool !== "pan";
    stage.style.cursor = "";
    if (page.tab === "everything") {
      if (isOver) stage.style.cursor = "pointer";
      return page.hoverFound(isOver ? view.toPhoto(at) : null);
    }
    const target = isOver ? hit(at, false) : null;
    const index = target?.kind === "point" ? target.index : null;
    if (index !== view.live.hover) {
      view.live.hover = index;
      view.redraw("marks");
    }
    const shapes = { badge: "pointer", point: "pointer", handle: target?.handle?.cursor };
    stage.style.cursor = target ? shapes[target.kind] : "";
  }

  function onWheel(event) {
    if (!view.photo || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    const pixels = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaY;
    view.zoomBy(Math.exp(-clamp(pixels, -200, 200) * 0.0035), positionOf(event));
    page.zoomChanged();
  }

  // Safari on a Mac tells of two fingers on the trackpad so, and would zoom the page; on a phone the
  // pointers' own events do it.
  function onTrackpad(event) {
    if (!view.photo) return;
    event.preventDefault();
    if (event.type === "gesturechange" && pointers.size === 0) {
      view.zoomBy(event.scale / trackpadScale, positionOf(event));
      page.zoomChanged();
    }
    trackpadScale = event.scale;
  }

  // Keep the page from scrolling only where a finger does something on the photo.
  function onTouchStart(event) {
    if (!view.photo || !event.cancelable) return;
    const touch = event.touches[0];
    const isHit = page.tab !== "everything" && hit(positionOf(touch), true);
    const isBusy = event.touches.length > 1 || penId !== null || isHit;
    if (isBusy && isOnStage(event)) event.preventDefault();
  }

  stage.addEventListener("pointerdown", onDown);
  stage.addEventListener("pointermove", onMove);
  stage.addEventListener("pointerup", onUp);
  stage.addEventListener("pointercancel", onCancel);
  stage.addEventListener("pointerenter", (event) => {
    if (event.pointerType === "pen") page.penNear(true);
  });
  stage.addEventListener("pointerleave", (event) => {
    if (event.pointerType !== "touch") hover(null); // a finger leaves with every tap
    if (event.pointerType === "pen") page.penNear(false);
  });
  stage.addEventListener("contextmenu", (event) => event.preventDefault());
  stage.addEventListener("wheel", onWheel, { passive: false });
  stage.addEventListener("gesturestart", onTrackpad);
  stage.addEventListener("gesturechange", onTrackpad);
  stage.addEventListener("touchstart", onTouchStart, { passive: false });
  stage.addEventListener("touchmove", (event) => {
    if (event.touches.length > 1 && event.cancelable) event.preventDefault();
  }, { passive: false });
  stage.addEventListener("keydown", (event) => {
    if (event.key === " " && event.target === stage) {
      spaceHeld = true;
      event.preventDefault();
    }
    if (!gesture) return;
    const isStep = (event.ctrlKey || event.metaKey) && ["z", "y"].includes(shortcutOf(event));
    if (!isStep && event.key !== "Escape") return;
    giveUp();
    event.preventDefault();
    event.stopPropagation(); // no step is taken back or made again, and what is said stays
  });
  stage.addEventListener("keyup", (event) => {
    if (event.key === " ") spaceHeld = false;
  });
  stage.addEventListener("blur", () => {
    spaceHeld = false;
  });

  return { giveWay };
}
