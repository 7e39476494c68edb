// Sentences for the visitor: over the photo, or at the top of the screen where that is out of sight.

function createNotice(parts) {
  const { notice } = parts;

  function isInSight() {
    const { top } = notice.parentElement.getBoundingClientRect();
    return top > -20 && top < innerHeight - 80;
  }

  // `kind` (open, ask, limit, save, share, link, aside, offline) says what it is about: an answer of
  // another kind leaves it there. With "aside" stands a button back.
  function say(text, kind = "") {
    const hadFocus = notice.contains(document.activeElement);
    parts.back.hidden = kind !== "aside";
    notice.hidden = !text;
    notice.classList.toggle("ms-afar", !isInSight());
    if (hadFocus && !text) parts.stage.focus({ preventScroll: true });
    notice.dataset.kind = kind;
    parts.noticeText.textContent = text || "";
  }

  addEventListener("scroll", () => isInSight() && notice.classList.remove("ms-afar"), { passive: true });

  return {
    say,
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
