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
// `opacity`, and a line of even width at any zoom, light-cased so that it shows on any photo.
function createMaskPainter() {
  const shape = document.createElement("canvas");
  const line = document.createElement("canvas");
  const DIAGONALS = [[0.7, 0.7], [-0.7, 0.7], [0.7, -0.7], [-0.7, -0.7]];
  const SIDES = [...DIAGONALS, [1, 0], [-1, 0], [0, 1], [0, -1]];

  function prepare(canvas, like) {
    if (canvas.width !== like.width || canvas.height !== like.height) {
      canvas.width = like.width;
      canvas.height = like.height;
    }
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalCompositeOperation = "source-over";
    context.clearRect(0, 0, canvas.width, canvas.height);
    return context;
  }

  function fill(context, color) {
    context.globalCompositeOperation = "source-in";
    context.fillStyle = color;
    context.fillRect(0, 0, context.canvas.width, context.canvas.height);
  }

  // The shape moved a little to each side, less the shape itself: its outline.
  function drawLine(context, ratio) {
    const pen = prepare(line, context.canvas);
    for (const [dx, dy] of DIAGONALS) pen.drawImage(shape, 3.4 * ratio * dx, 3.4 * ratio * dy);
    fill(pen, "rgba(0, 0, 0, 0.55)");
    pen.globalCompositeOperation = "source-over";
    for (const [dx, dy] of SIDES) pen.drawImage(shape, 2 * ratio * dx, 2 * ratio * dy);
    pen.globalCompositeOperation = "destination-out";
    pen.drawImage(shape, 0, 0);
    context.drawImage(line, 0, 0);
  }

  return function paint(context, alpha, size, transform, { color, opacity, ratio, hasLine = true }) {
    const pen = prepare(shape, context.canvas);
    const scaleX = (transform.scale * size.width * ratio) / alpha.width;
    const scaleY = (transform.scale * size.height * ratio) / alpha.height;
    pen.setTransform(scaleX, 0, 0, scaleY, transform.dx * ratio, transform.dy * ratio);
    pen.imageSmoothingEnabled = Math.max(scaleX, scaleY) < 3 * ratio;
    pen.drawImage(alpha, 0, 0);
    pen.setTransform(1, 0, 0, 1, 0, 0);
    fill(pen, color);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.save();
    context.beginPath(); // the outline must not run over the photo's edge
    context.rect(
      transform.dx * ratio,
      transform.dy * ratio,
      Math.max(1, size.width * transform.scale) * ratio,
      Math.max(1, size.height * transform.scale) * ratio,
    );
    context.clip();
    context.globalAlpha = opacity;
    context.drawImage(shape, 0, 0);
    context.globalAlpha = 1;
    if (hasLine) drawLine(context, ratio);
    context.restore();
  };
}
