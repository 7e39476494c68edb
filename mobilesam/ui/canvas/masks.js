// Masks come as small pictures whose alpha is the mask; colour and outline come when one is drawn.

async function decodeMask(png) {
  const picture = new Image();
  picture.src = png;
  await picture.decode();
  const alpha = document.createElement("canvas");
  alpha.width = picture.naturalWidth;
  alpha.height = picture.naturalHeight;
  alpha.getContext("2d").drawImage(picture, 0, 0);
  return alpha;
}

// Decoded masks are large, four bytes for each pixel. Of all `states` those stay that one of the `near`
// ones shows, and those to choose from of its active object; others are decoded again when wanted.
function forgetMasks(states, near) {
  const kept = new Set();
  for (const { objects, activeId } of near) {
    for (const { id, result } of objects) {
      if (!result) continue;
      const { masks, shown, best } = result;
      for (const mask of id === activeId ? masks : [masks[shown ?? best]]) kept.add(mask);
    }
  }
  for (const { objects } of states) {
    for (const mask of objects.flatMap(({ result }) => result?.masks ?? [])) {
      if (!kept.has(mask)) mask.alpha = null;
    }
  }
}

// Paint a mask over what `context` holds; `transform` maps the photo's pixels to CSS pixels: a fill of
// `opacity`, and a line of even width at any zoom, light-cased so that it shows on any photo. Only what
// is near its `bounds`, in the photo's pixels, is touched: of many objects each is a small part.
function createMaskPainter() {
  const shape = document.createElement("canvas");
  const line = document.createElement("canvas");
  const REACH = 4; // CSS pixels from a shape within which its outline lies
  const DIAGONALS = [[0.7, 0.7], [-0.7, 0.7], [0.7, -0.7], [-0.7, -0.7]];
  const SIDES = [...DIAGONALS, [1, 0], [-1, 0], [0, 1], [0, -1]];

  // The device pixels of a canvas from `x0, y0` to `x1, y1`, given in CSS pixels.
  function partOf({ width, height }, [x0, y0, x1, y1], ratio) {
    const left = Math.max(0, Math.floor(x0 * ratio));
    const top = Math.max(0, Math.floor(y0 * ratio));
    const right = Math.min(width, Math.ceil(x1 * ratio));
    const bottom = Math.min(height, Math.ceil(y1 * ratio));
    return [left, top, Math.max(0, right - left), Math.max(0, bottom - top)];
  }

  // Draw into a part of a canvas.
  function within(context, part, draw) {
    context.save();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.beginPath();
    context.rect(...part);
    context.clip();
    draw();
    context.restore();
  }

  // Draw into an empty part of a canvas of our own.
  function anew(canvas, like, part, draw) {
    if (canvas.width !== like.width || canvas.height !== like.height) {
      canvas.width = like.width;
      canvas.height = like.height;
    }
    const context = canvas.getContext("2d");
    within(context, part, () => {
      context.clearRect(...part);
      draw(context);
    });
  }

  function fill(context, part, color) {
    context.globalCompositeOperation = "source-in";
    context.fillStyle = color;
    context.fillRect(...part);
    context.globalCompositeOperation = "source-over";
  }

  // The shape moved a little to each side, less the shape itself: its outline.
  function drawLine(pen, part, ratio) {
    for (const [dx, dy] of DIAGONALS) pen.drawImage(shape, 3.4 * ratio * dx, 3.4 * ratio * dy);
    fill(pen, part, "rgba(0, 0, 0, 0.55)");
    for (const [dx, dy] of SIDES) pen.drawImage(shape, 2 * ratio * dx, 2 * ratio * dy);
    pen.globalCompositeOperation = "destination-out";
    pen.drawImage(shape, 0, 0);
  }

  return function paint(context, alpha, size, { scale, dx, dy }, { color, opacity, ratio, bounds, hasLine = true }) {
    const { canvas } = context;
    const cell = [(scale * size.width) / alpha.width, (scale * size.height) / alpha.height]; // CSS pixels
    const [left, top, right, bottom] = bounds.map((at, side) => at * scale + (side % 2 ? dy : dx));
    const reach = REACH + Math.max(...cell);
    // From beyond `around` the shape of another mask may be moved in, but not as far as `near`.
    const around = partOf(canvas, [left - reach - REACH, top - reach - REACH, right + reach + REACH, bottom + reach + REACH], ratio);
    const near = partOf(canvas, [left - reach, top - reach, right + reach, bottom + reach], ratio);
    if (!near[2] || !near[3]) return; // out of sight
    anew(shape, canvas, around, (pen) => {
      pen.setTransform(cell[0] * ratio, 0, 0, cell[1] * ratio, dx * ratio, dy * ratio);
      pen.imageSmoothingEnabled = Math.max(...cell) < 3;
      pen.drawImage(alpha, 0, 0);
      pen.setTransform(1, 0, 0, 1, 0, 0);
      fill(pen, around, color);
    });
    if (hasLine) anew(line, canvas, around, (pen) => drawLine(pen, around, ratio));
    within(context, near, () => {
      context.beginPath(); // the outline must not run over the photo's edge
      context.rect(dx * ratio, dy * ratio, Math.max(1, size.width * scale) * ratio, Math.max(1, size.height * scale) * ratio);
      context.clip();
      context.globalAlpha = opacity;
      context.drawImage(shape, 0, 0);
      context.globalAlpha = 1;
      if (hasLine) context.drawImage(line, 0, 0);
    });
  };
}
