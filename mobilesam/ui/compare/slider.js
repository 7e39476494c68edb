// Gradio's image slider answers to the mouse and to fingers only, its pictures have no names, and it
// keeps the page from scrolling.

const STEP = 5; // per cent of the picture's width for an arrow key
const KEYS = { ArrowLeft: -STEP, ArrowDown: -STEP, ArrowRight: STEP, ArrowUp: STEP, Home: -100, End: 100 };

// Where the picture lies, as the slider computes it: as large as fits. Null before there is a layout.
function pictureSpan(host) {
  const picture = host.querySelector("img");
  const frame = picture?.parentElement.getBoundingClientRect();
  const width = picture ? Math.min(frame.width, (frame.height * picture.naturalWidth) / picture.naturalHeight) : 0;
  return width > 0 ? { left: frame.left + (frame.width - width) / 2, width } : null;
}

function middleOf(handle) {
  const { left, width } = handle.getBoundingClientRect();
  return left + width / 2;
}

function tellPlace(host, handle) {
  const span = pictureSpan(host);
  const share = span ? (100 * (middleOf(handle) - span.left)) / span.width : 50;
  handle.setAttribute("aria-valuenow", String(Math.round(Math.min(100, Math.max(0, share)))));
}

// The handle follows a drag, so a key is a short drag.
function moveLine(host, handle, by) {
  const span = pictureSpan(host);
  if (!span) return;
  const { top, height } = handle.getBoundingClientRect();
  const from = middleOf(handle);
  const to = Math.min(span.left + span.width, Math.max(span.left, from + (by / 100) * span.width));
  const at = (clientX) => ({ clientX, clientY: top + height / 2, view: window, bubbles: true });
  handle.dispatchEvent(new MouseEvent("mousedown", at(from)));
  window.dispatchEvent(new MouseEvent("mousemove", at(to)));
  window.dispatchEvent(new MouseEvent("mouseup", at(to)));
}

function nameHandle(host, handle) {
  const range = { role: "slider", "aria-label": "Line between the two masks", "aria-valuemin": "0", "aria-valuemax": "100" };
  for (const [name, text] of Object.entries(range)) handle.setAttribute(name, text);
  handle.tabIndex = 0;
  handle.addEventListener("keydown", (event) => {
    if (!(event.key in KEYS)) return;
    event.preventDefault();
    moveLine(host, handle, KEYS[event.key]);
  });
  const tell = () => tellPlace(host, handle);
  new MutationObserver(tell).observe(handle, { attributes: true, attributeFilter: ["style"] }); // it was moved
  new ResizeObserver(tell).observe(handle.parentElement);
  tell();
}

function tendSlider(host) {
  const sides = [...document.querySelectorAll("#ms-compare-sides span")].map((side) => side.textContent);
  host.querySelectorAll("img").forEach((picture, index) => {
    const name = sides[index] ? `The photo with a mask. ${sides[index]}` : "";
    if (picture.alt !== name) picture.alt = name;
  });
  const handle = host.querySelector('[data-testid="slider"]');
  if (handle && handle.tabIndex !== 0) nameHandle(host, handle);
}

// A plain wheel, and one finger that goes up or down, scroll the page; Ctrl with the wheel and two
// fingers zoom. What is zoomed is moved about by one finger.
function letScroll(host) {
  const early = { capture: true, passive: true };
  let swipe = null; // { x, y, isUpright }: the one finger that is down

  host.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
  }, early);
  host.addEventListener("touchstart", (event) => {
    const [{ clientX: x, clientY: y }] = event.touches;
    swipe = event.touches.length === 1 ? { x, y, isUpright: null } : null;
    const isZoomed = /scale\((?!1\))/.test(host.querySelector("img")?.style.transform ?? "");
    if (swipe && !isZoomed && !event.target.closest('[role="slider"], button')) event.stopPropagation();
  }, early);
  host.addEventListener("touchmove", (event) => {
    if (!swipe) return;
    const { clientX, clientY } = event.touches[0];
    swipe.isUpright ??= Math.abs(clientY - swipe.y) > Math.abs(clientX - swipe.x);
    if (swipe.isUpright && event.target.closest('[role="slider"]')) event.stopPropagation();
  }, early);
}

function attachSlider(host, sides) {
  const observer = new MutationObserver(() => tendSlider(host));
  for (const watched of [host, sides]) observer.observe(watched, { childList: true, subtree: true });
  tendSlider(host);
  letScroll(host);
}
