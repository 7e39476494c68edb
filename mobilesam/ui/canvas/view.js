// The stage: four layers (photo, mask, everything, marks) under one zoom, each redrawn only when it changes.

const MAX_ZOOM = 16;
const SMALLEST_HALF = 256; // pixels, longest side
const FADING = 4; // standard deviations that an edge fades over at most

// A picture, and copies of half its size, a quarter and so on.
function halvings(picture) {
  const all = [picture];
  while (Math.max(all.at(-1).width, all.at(-1).height) > SMALLEST_HALF) {
    const last = all.at(-1);
    const half = make("canvas", { width: Math.ceil(last.width / 2), height: Math.ceil(last.height / 2) });
    half.getContext("2d").drawImage(last, 0, 0, half.width, half.height);
    all.push(half);
  }
  return all;
}

function createView(parts, prompts, look) {
  const paintMask = createMaskPainter();
  const layers = { photo: parts.photoLayer, mask: parts.maskLayer, everything: parts.everythingLayer, marks: parts.markLayer };
  const under = document.createElement("canvas"); // the objects that are not worked on
  let underParts = []; // what it was painted of
  const dirty = new Set();
  let frame = 0;
  let photo = null; // { source, width, height }: source is drawn, the size is the photo's own
  let sizes = []; // its source and smaller copies
  let box = { width: 1, height: 1 }; // the stage, CSS pixels
  let ratio = 1; // device pixels per CSS pixel
  let zoom = 1; // 1 shows the whole photo
  let center = { x: 0, y: 0 }; // the photo's pixel in the middle of the stage
  let afterPaint = [];
  let drawEverything = null; // paints the everything tab's masks
  const live = { cursor: null, band: null, stroke: null, hover: null, corner: null, isQuiet: false };

  function fitScale() {
    if (!photo) return 1;
    const margin = box.width > 600 ? 16 : 0;
    return Math.min(
      (box.width - 2 * margin) / photo.width,
      (box.height - 2 * margin) / photo.height,
    );
  }

  function transform() {
    const scale = fitScale() * zoom;
    return {
      scale,
      dx: box.width / 2 - center.x * scale,
      dy: box.height / 2 - center.y * scale,
    };
  }

  function keepInside() {
    if (!photo) return;
    const scale = fitScale() * zoom;
    for (const [axis, side] of [["x", "width"], ["y", "height"]]) {
      const half = box[side] / 2 / scale;
      const low = Math.min(half, photo[side] / 2);
      center[axis] = clamp(center[axis], low, photo[side] - low);
    }
  }

  function redraw(...names) {
    for (const name of names.length ? names : Object.keys(layers)) dirty.add(name);
    if (!frame) frame = requestAnimationFrame(draw);
  }

  function start(canvas) {
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    return context;
  }

  function draw() {
    frame = 0;
    if (dirty.has("photo")) drawPhoto();
    if (dirty.has("mask")) drawMask();
    if (dirty.has("everything")) drawFound();
    if (dirty.has("marks")) drawMarks();
    dirty.clear();
    const { scale, dx, dy } = transform();
    parts.stage.dataset.transform = `${scale} ${dx} ${dy}`; // for tests and benchmarks
    const done = afterPaint;
    afterPaint = [];
    for (const callback of done) callback();
  }

  function drawPhoto() {
    const context = start(layers.photo);
    if (!photo) return;
    const { scale, dx, dy } = transform();
    const width = Math.max(photo.width * scale, 1); // a 1-pixel-wide photo stays visible
    const height = Math.max(photo.height * scale, 1);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.imageSmoothingQuality = "high"; // not every browser knows it
    context.imageSmoothingEnabled = (scale * photo.width) / photo.source.width < 4;
    context.drawImage(sourceFor(width * ratio, height * ratio), dx, dy, width, height);
  }

  // What the photo is drawn from at a size in device pixels: from a much larger picture some
  // browsers take a few pixels only, which is coarse.
  function sourceFor(width, height) {
    const enough = sizes.filter((size) => size.width >= width && size.height >= height);
    return enough.at(-1) ?? photo.source;
  }

  // The other objects first, the active one over them.
  function drawMask() {
    const context = start(layers.mask);
    if (!photo) return;
    const shown = prompts.all.filter((object) => !object.hidden && prompts.maskOf(object)?.alpha);
    const others = shown.filter((object) => object !== prompts.current);
    if (others.length) context.drawImage(paintedOthers(others), 0, 0);
    else underParts = []; // which hold decoded masks
    if (shown.length > others.length) paintObject(context, prompts.current);
  }

  function paintObject(context, object) {
    const hasLine = !object.refine.feather; // a line would hide a soft edge
    const { alpha, box, feather } = prompts.maskOf(object);
    const bounds = box.map((at, side) => at + (side < 2 ? -1 : 1) * FADING * feather);
    paintMask(context, alpha, photo, transform(), { ...look, color: object.color, ratio, bounds, hasLine });
  }

  // While one object is worked on the others stay as they are: they are painted once.
  function paintedOthers(others) {
    const { width, height } = layers.mask;
    const parts = [width, height, ratio, look.opacity, ...Object.values(transform())];
    for (const object of others) parts.push(object.color, object.refine.feather, prompts.maskOf(object).alpha);
    if (parts.length === underParts.length && parts.every((part, index) => part === underParts[index])) return under;
    underParts = parts;
    Object.assign(under, { width, height }); // which empties it
    const context = under.getContext("2d");
    for (const object of others) paintObject(context, object);
    return under;
  }

  function drawFound() {
    const context = start(layers.everything);
    if (photo && drawEverything) drawEverything(context, { transform: transform(), ratio, photo });
  }

  function drawMarks() {
    const context = start(layers.marks);
    if (!photo) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (live.isQuiet) return; // the everything tab is open
    if (prompts.box) drawBox(context, prompts.box, true);
    if (live.band) drawBox(context, live.band, false);
    if (live.stroke) drawStroke(context, live.stroke);
    prompts.points.forEach(({ x, y, label }, index) => {
      drawPoint(context, toStage({ x: x + 0.5, y: y + 0.5 }), { label, isHovered: index === live.hover, ratio });
    });
    if (live.corner) drawCross(context, toStage(live.corner), 7);
    if (live.cursor) drawCross(context, toStage(live.cursor), 14);
  }

  function drawBox(context, [x0, y0, x1, y1], hasHandles) {
    const a = toStage({ x: x0, y: y0 });
    const b = toStage({ x: x1, y: y1 });
    context.beginPath();
    context.rect(a.x, a.y, b.x - a.x, b.y - a.y);
    context.setLineDash(hasHandles ? [] : [6, 4]);
    cased(context, 2);
    context.setLineDash([]);
    if (!hasHandles) return;
    for (const handle of boxHandles()) {
      context.beginPath();
      context.arc(handle.x, handle.y, 5, 0, 2 * Math.PI);
      context.fillStyle = "#fff";
      context.fill();
      context.lineWidth = 1.5;
      context.strokeStyle = "rgba(0, 0, 0, 0.7)";
      context.stroke();
    }
    const badge = boxBadge();
    context.beginPath();
    context.arc(badge.x, badge.y, 10, 0, 2 * Math.PI);
    context.fillStyle = "#1f2328";
    context.fill();
    context.beginPath();
    for (const [dx, dy] of [[1, 1], [1, -1]]) {
      context.moveTo(badge.x - 3.5 * dx, badge.y - 3.5 * dy);
      context.lineTo(badge.x + 3.5 * dx, badge.y + 3.5 * dy);
    }
    context.lineWidth = 2;
    context.strokeStyle = "#fff";
    context.stroke();
  }

  function drawStroke(context, path) {
    context.beginPath();
    path.map(toStage).forEach(({ x, y }, index) => {
      if (index) context.lineTo(x, y);
      else context.moveTo(x, y);
    });
    context.lineJoin = "round";
    context.lineCap = "round";
    cased(context, 3);
  }

  function toStage({ x, y }) {
    const { scale, dx, dy } = transform();
    return { x: x * scale + dx, y: y * scale + dy };
  }

  function toPhoto({ x, y }) {
    const { scale, dx, dy } = transform();
    return { x: (x - dx) / scale, y: (y - dy) / scale };
  }

  // Corner handles always, edge handles where there is room; `sides` index into [x0, y0, x1, y1].
  function boxHandles() {
    if (!prompts.box) return [];
    const [x0, y0, x1, y1] = prompts.box;
    const a = toStage({ x: x0, y: y0 });
    const b = toStage({ x: x1, y: y1 });
    const handles = [
      { x: a.x, y: a.y, sides: [0, 1], cursor: "nwse-resize" },
      { x: b.x, y: a.y, sides: [2, 1], cursor: "nesw-resize" },
      { x: b.x, y: b.y, sides: [2, 3], cursor: "nwse-resize" },
      { x: a.x, y: b.y, sides: [0, 3], cursor: "nesw-resize" },
    ];
    const middle = { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
    if (b.x - a.x > 64) {
      handles.push({ x: middle.x, y: a.y, sides: [null, 1], cursor: "ns-resize" });
      handles.push({ x: middle.x, y: b.y, sides: [null, 3], cursor: "ns-resize" });
    }
    if (b.y - a.y > 64) {
      handles.push({ x: a.x, y: middle.y, sides: [0, null], cursor: "ew-resize" });
      handles.push({ x: b.x, y: middle.y, sides: [2, null], cursor: "ew-resize" });
    }
    return handles;
  }

  // Where the box can be closed: off its upper right corner, else off another one that leaves the
  // badge on the stage, else inside it, away from the handles.
  function boxBadge() {
    if (!prompts.box) return null;
    const [x0, y0, x1, y1] = prompts.box;
    const a = toStage({ x: x0, y: y0 });
    const b = toStage({ x: x1, y: y1 });
    const places = [
      { x: b.x + 18, y: a.y - 18 },
      { x: b.x + 18, y: b.y + 18 },
      { x: a.x - 18, y: a.y - 18 },
      { x: a.x - 18, y: b.y + 18 },
    ];
    const isOnStage = ({ x, y }) => x >= 12 && y >= 12 && x <= box.width - 12 && y <= box.height - 12;
    return places.find(isOnStage) || {
      x: clamp(b.x - 28, 12, box.width - 12),
      y: clamp(a.y + 28, 12, box.height - 12),
    };
  }

  function resize() {
    const bounds = parts.stage.getBoundingClientRect();
    box = { width: Math.max(1, bounds.width), height: Math.max(1, bounds.height) };
    ratio = Math.min(window.devicePixelRatio || 1, 2);
    for (const canvas of Object.values(layers)) {
      canvas.width = Math.round(box.width * ratio);
      canvas.height = Math.round(box.height * ratio);
    }
    keepInside();
    if (frame) cancelAnimationFrame(frame);
    for (const name of Object.keys(layers)) dirty.add(name);
    draw(); // at once: an emptied canvas would flash
  }

  return {
    live,
    redraw,
    resize,
    sourceFor,
    toStage,
    toPhoto,
    boxHandles,
    boxBadge,
    get photo() {
      return photo;
    },
    get zoom() {
      return zoom;
    },
    // CSS pixels per pixel of the photo.
    get scale() {
      return transform().scale;
    },
    get isZoomed() {
      return zoom > 1.001;
    },
    // `isSame`: what is on the screen already, opened again.
    show(next, isSame = false) {
      photo = next;
      sizes = next ? halvings(next.source) : [];
      if (isSame) return redraw();
      zoom = 1;
      center = next ? { x: next.width / 2, y: next.height / 2 } : { x: 0, y: 0 };
      Object.assign(live, { cursor: null, band: null, stroke: null, hover: null, corner: null });
      redraw();
    },
    // Zoom by a factor; `anchor` (stage position) stays where it is.
    zoomBy(factor, anchor = { x: box.width / 2, y: box.height / 2 }) {
      if (!photo) return;
      const fixed = toPhoto(anchor);
      zoom = clamp(zoom * factor, 1, MAX_ZOOM);
      const { scale } = transform();
      center.x = fixed.x - (anchor.x - box.width / 2) / scale;
      center.y = fixed.y - (anchor.y - box.height / 2) / scale;
      keepInside();
      redraw();
    },
    panBy(dx, dy) {
      const { scale } = transform();
      center.x -= dx / scale;
      center.y -= dy / scale;
      keepInside();
      redraw();
    },
    fit() {
      zoom = 1;
      keepInside();
      redraw();
    },
    // Bring a photo position into sight.
    reveal(position) {
      const at = toStage(position);
      const margin = 24;
      const dx = clamp(at.x, margin, box.width - margin) - at.x;
      const dy = clamp(at.y, margin, box.height - margin) - at.y;
      if (dx || dy) this.panBy(dx, dy);
    },
    whenPainted(callback) {
      afterPaint.push(callback);
    },
    // `draw(context, { transform, ratio, photo })` fills the everything tab's layer.
    set drawEverything(draw) {
      drawEverything = draw;
    },
  };
}
