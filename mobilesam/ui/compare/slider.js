() => {
  // Gradio's image slider answers to the mouse and to fingers only, and its pictures have no names.
  const STEP = 5; // per cent of the width for an arrow key
  const KEYS = { ArrowLeft: -STEP, ArrowDown: -STEP, ArrowRight: STEP, ArrowUp: STEP, Home: -100, End: 100 };

  function share(handle, wrap) {
    const line = handle.getBoundingClientRect();
    const frame = wrap.getBoundingClientRect();
    return (100 * (line.left + line.width / 2 - frame.left)) / frame.width;
  }

  // The handle follows a drag, so a key is a short drag.
  function move(handle, wrap, by) {
    const line = handle.getBoundingClientRect();
    const frame = wrap.getBoundingClientRect();
    const from = line.left + line.width / 2;
    const to = Math.min(frame.right, Math.max(frame.left, from + (by / 100) * frame.width));
    const at = (clientX) => ({ clientX, clientY: line.top + line.height / 2, view: window, bubbles: true });
    handle.dispatchEvent(new MouseEvent("mousedown", at(from)));
    window.dispatchEvent(new MouseEvent("mousemove", at(to)));
    window.dispatchEvent(new MouseEvent("mouseup", at(to)));
    requestAnimationFrame(() => tell(handle, wrap));
  }

  function tell(handle, wrap) {
    handle.setAttribute("aria-valuenow", String(Math.round(Math.min(100, Math.max(0, share(handle, wrap))))));
  }

  function tend(host) {
    const sides = [...document.querySelectorAll("#ms-compare-sides span")].map((side) => side.textContent);
    host.querySelectorAll("img").forEach((picture, index) => {
      const name = sides[index] ? `The photo with a mask. ${sides[index]}` : "";
      if (picture.alt !== name) picture.alt = name;
    });
    const handle = host.querySelector('[data-testid="slider"]');
    if (!handle || handle.tabIndex === 0) return;
    const wrap = handle.parentElement;
    handle.tabIndex = 0;
    handle.setAttribute("role", "slider");
    handle.setAttribute("aria-label", "Line between the two masks");
    handle.setAttribute("aria-valuemin", "0");
    handle.setAttribute("aria-valuemax", "100");
    tell(handle, wrap);
    handle.addEventListener("keydown", (event) => {
      if (!(event.key in KEYS)) return;
      event.preventDefault();
      move(handle, wrap, KEYS[event.key]);
    });
  }

  function begin() {
    const host = document.querySelector("#ms-compare-slider");
    const sides = document.querySelector("#ms-compare-sides");
    if (!host || !sides) return setTimeout(begin, 200);
    const observer = new MutationObserver(() => tend(host));
    for (const watched of [host, sides]) observer.observe(watched, { childList: true, subtree: true });
    tend(host);
  }

  begin();
}
