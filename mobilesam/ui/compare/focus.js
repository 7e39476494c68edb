// A button that is switched off or taken away loses the focus: the one that is of use then gets it.

const NEXT = { start: ["stop"], fetch: ["stop"], stop: ["start", "fetch"] };

function keepFocus(tab) {
  let held = ""; // the button that a visitor was at last, "" once he has gone elsewhere
  const buttonOf = (name) => tab.querySelector(`#ms-compare-${name}`);
  const nameOf = (target) => Object.keys(NEXT).find((name) => buttonOf(name)?.contains(target)) ?? "";
  const isUsable = (button) => button && !button.disabled && button.checkVisibility();

  function look() {
    const active = document.activeElement;
    const isLost = active === document.body || active.matches(":disabled");
    if (held && isLost) NEXT[held].map(buttonOf).find(isUsable)?.focus({ preventScroll: true });
  }

  document.addEventListener("focusin", ({ target }) => (held = nameOf(target)));
  document.addEventListener("pointerdown", ({ target }) => (held = nameOf(target)), true);
  new MutationObserver(look).observe(tab, { subtree: true, childList: true, attributeFilter: ["disabled", "class"] });
}
