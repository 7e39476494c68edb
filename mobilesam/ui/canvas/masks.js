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

// The part of the picture that masks cover together, in shares of its sides, or null.
function unionBounds(alphas) {
  const SIDE = 96;
  const canvas = document.createElement("canvas");
  canvas.width = SIDE;
  canvas.height = SIDE;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  for (const alpha of alphas) context.drawImage(alpha, 0, 0, SIDE, SIDE);
  const { data } = context.getImageData(0, 0, SIDE, SIDE);
  const path = [];
  for (let i = 0; i < SIDE * SIDE; i += 1) {
    if (data[4 * i + 3] > 8) path.push({ x: i % SIDE, y: Math.floor(i / SIDE) });
  }
  if (!path.length) return null;
  const { left, top, right, bottom } = boundsOf(path);
  return { left: left / SIDE, top: top / SIDE, right: (right + 1) / SIDE, bottom: (bottom + 1) / SIDE };
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
