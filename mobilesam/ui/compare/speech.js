// What the status line says is heard, too: through the page's one live region, which is there from
// the start, and on the other tabs as well.

const QUIET_MS = 5000; // between two words on how far it is

// Without how many seconds or megabytes of a stage are over.
function stageOf(text) {
  return text.replace(/,? [\d,]+ (s|of) .*$/, "");
}

function attachSpeech(status) {
  const text = () => status.querySelector(".ms-compare-say")?.textContent ?? "";
  let stage = text(); // what stands there from the start is not heard
  let saidAt = 0;
  let isBusy = false;

  function listen() {
    const now = performance.now();
    const goesOn = isBusy;
    isBusy = Boolean(status.querySelector("[role=progressbar]"));
    const before = stage;
    if (stageOf(text()) === before || (isBusy && goesOn && now - saidAt < QUIET_MS)) return;
    stage = stageOf(text());
    if (!before) return;
    saidAt = now;
    document.querySelector(".ms").dispatchEvent(new CustomEvent("announce", { detail: stage }));
  }

  new MutationObserver(listen).observe(status, { childList: true, subtree: true });
}
