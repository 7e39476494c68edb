// What the visitor sees of the page. A frame may be made as tall as its page, as Hugging Face does with
// a Space: then the window is all of the page, `innerHeight` and CSS's `vh` grow with what is in it, and
// the page around it scrolls. Gradio loads what such a frame talks through, `parentIFrame`.

function isInTallFrame() {
  return "parentIFrame" in window;
}

// The part of the page that is on the screen, in the window's coordinates; what is outside the window
// and the frame counts, in a page of another server, too.
function seenPart() {
  return new Promise((resolve) => {
    new IntersectionObserver(([entry], observer) => {
      observer.disconnect();
      resolve(entry.intersectionRect);
    }).observe(document.documentElement);
  });
}

// Have CSS's `--ms-window-height` be the height of what is seen, where `vh` is not.
function watchWindowHeight() {
  let width = 0;

  async function measure() {
    if (!isInTallFrame() || innerWidth === width) return; // only the height is the page's own
    width = innerWidth;
    document.documentElement.dataset.msFrame = "tall";
    const { height } = await seenPart();
    const isHardlySeen = height < 400; // it begins far down in the page around it
    const seen = isHardlySeen ? 0.8 * screen.availHeight : height;
    document.documentElement.style.setProperty("--ms-window-height", `${Math.round(seen)}px`);
  }

  addEventListener("gradio:iframe-resizer-ready", measure);
  addEventListener("resize", measure);
  measure();
}

// Scroll so that all of `element` is seen if it is not: the first of `starts` at the top below which
// there is room for it, else the last.
async function bringIntoSight(element, ...starts) {
  const { top, bottom } = element.getBoundingClientRect();
  const isInFrame = isInTallFrame();
  const seen = isInFrame ? await seenPart() : { top: 0, bottom: innerHeight };
  if (top >= seen.top && bottom <= seen.bottom) return;
  const topOf = (start) => start.getBoundingClientRect().top - parseFloat(getComputedStyle(start).scrollMarginTop);
  const start = starts.find((one) => bottom - topOf(one) <= seen.bottom - seen.top) ?? starts.at(-1);
  if (isInFrame) window.parentIFrame.scrollToOffset(0, topOf(start));
  else start.scrollIntoView({ block: "start" });
}

// Tell CSS by `--ms-seen-top` where what is seen begins, for what stands at the top of the screen. Returns
// what is seen, or null where the window tells.
async function noteSeenTop(element) {
  if (!isInTallFrame()) return null;
  const seen = await seenPart();
  element.style.setProperty("--ms-seen-top", `${Math.round(seen.top)}px`);
  return seen;
}
