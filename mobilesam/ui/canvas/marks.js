// What is drawn over the photo that is no mask: points, lines, crosses. Positions are the stage's.

const POINT_RADIUS = 9; // CSS pixels
const INCLUDE_COLOR = "#0b63e5";
const EXCLUDE_COLOR = "#e8590c";

// A light line over a dark one shows on any photo.
function cased(context, width, color = "#fff") {
  context.lineWidth = width + 2;
  context.strokeStyle = "rgba(0, 0, 0, 0.55)";
  context.stroke();
  context.lineWidth = width;
  context.strokeStyle = color;
  context.stroke();
}

function drawPoint(context, { x, y }, { label, isHovered, ratio }) {
  const radius = POINT_RADIUS + (isHovered ? 2 : 0);
  context.beginPath();
  context.arc(x, y, radius + 2, 0, 2 * Math.PI);
  context.fillStyle = "#fff";
  context.shadowColor = "rgba(0, 0, 0, 0.45)";
  context.shadowBlur = 4 * ratio;
  context.fill();
  context.shadowColor = "transparent";
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = label === 1 ? INCLUDE_COLOR : EXCLUDE_COLOR;
  context.fill();
  context.beginPath();
  context.moveTo(x - 4.5, y);
  context.lineTo(x + 4.5, y);
  if (label === 1) {
    context.moveTo(x, y - 4.5);
    context.lineTo(x, y + 4.5);
  }
  context.lineWidth = 2.2;
  context.lineCap = "round";
  context.strokeStyle = "#fff";
  context.stroke();
}

function drawCross(context, { x, y }, reach) {
  context.beginPath();
  for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    context.moveTo(x + 3 * dx, y + 3 * dy);
    context.lineTo(x + reach * dx, y + reach * dy);
  }
  context.lineCap = "round";
  cased(context, 2.5);
}
