// Without a connection a press waits until there is one: a request that fails has Gradio load the
// page anew.

const BUTTONS = "#ms-compare-start, #ms-compare-fetch, #ms-compare-stop";

function waitForConnection(tab, page) {
  let waiting = null;
  tab.addEventListener("click", (event) => {
    const button = event.target.closest(BUTTONS);
    if (!button || navigator.onLine) return;
    event.stopPropagation();
    waiting = button.id;
    page.dispatchEvent(new CustomEvent("offline"));
  }, true);
  addEventListener("online", () => {
    if (waiting) document.getElementById(waiting)?.click();
    waiting = null;
  });
}
