// Sentences for the visitor: over the photo, or at the top of the screen where that is out of sight.

function createNotice(parts) {
  const { notice } = parts;
  let beneath = ""; // the sentence with the button back, while another one is in its place

  // Over the photo, or at the top of the screen where the photo's upper edge is out of sight.
  async function place() {
    const settle = (seen) => {
      const { top } = notice.parentElement.getBoundingClientRect();
      notice.classList.toggle("ms-afar", top <= seen.top - 20 || top >= seen.bottom - 80);
    };
    settle({ top: 0, bottom: innerHeight });
    const seen = await noteSeenTop(notice);
    if (seen) settle(seen);
  }

  // `kind` (open, ask, limit, save, share, link, aside, offline) says what it is about: an answer of
  // another kind leaves it there. With "aside" stands a button back: it comes again when what was said
  // after it goes.
  function say(text, kind = "") {
    if (!text && beneath) return say(beneath, "aside");
    const isOffer = notice.dataset.kind === "aside" && !notice.hidden;
    if (kind === "aside") beneath = "";
    else if (text && isOffer) beneath = parts.noticeText.textContent;
    const hadFocus = notice.contains(document.activeElement);
    parts.back.hidden = kind !== "aside";
    notice.hidden = !text;
    place();
    if (hadFocus && !text) parts.stage.focus({ preventScroll: true });
    notice.dataset.kind = kind;
    parts.noticeText.textContent = text || "";
  }

  new IntersectionObserver(
    ([{ isIntersecting, intersectionRect, boundingClientRect }]) => {
      const isInSight = isIntersecting && intersectionRect.top < boundingClientRect.top + 20;
      if (isInSight) notice.classList.remove("ms-afar");
    },
    { threshold: [0, 0.1, 0.25, 0.5, 0.75, 0.9, 1] },
  ).observe(notice.parentElement);

  return {
    say,
    // All that was said has been about another photo.
    hush() {
      beneath = "";
      say("");
    },
    // A second sentence, after one about the photo or a link; the button back stays.
    sayToo(text, kind = "share") {
      const { hidden, dataset } = notice;
      if (hidden || !["open", "share", "link", "aside"].includes(dataset.kind)) return say(text, kind);
      say(`${parts.noticeText.textContent} ${text}`, dataset.kind === "aside" ? "aside" : kind);
    },
    unsay(kind) {
      if (notice.dataset.kind === kind) say("");
    },
  };
}
