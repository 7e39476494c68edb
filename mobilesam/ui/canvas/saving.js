// Downloads: the server makes, at the photo's own size, what was on the screen at the click.

const SAVE_WAIT_MS = 60000;
const MAX_READINGS = 2; // of the photo again, for one file
const SAVE_TROUBLE = "The file could not be made; please try again.";

function createSaving(page, link) {
  let current = null; // { button, request, isSent, readings }
  let timer = 0;

  function start(button) {
    end(false); // one file at a time
    page.unsay("save");
    current = { button, request: null, isSent: false, readings: 0 };
    timer = setTimeout(() => fail(SAVE_TROUBLE), SAVE_WAIT_MS);
    go();
  }

  // Send the request: at once, or when the masks under way are on the screen. Once it is sent only
  // a photo that was read anew (`again`) lets it be: its answer, if there was one, is lost.
  function go(again = false) {
    if (!current) return;
    const shown = link.whatIsShown();
    if (!current.request && shown) {
      current.request = { ...shown, kind: current.button.dataset.save };
    }
    if (!current.request || !link.isReady() || (current.isSent && !again)) return;
    current.isSent = true;
    link.send(current.request);
  }

  function end(isDone) {
    clearTimeout(timer);
    if (!current) return;
    page.saved(current.button, isDone);
    current = null;
    link.forget();
  }

  function fail(text) {
    end(false);
    page.say(text, "save");
  }

  function onSaved(saved) {
    if (!current || !saved || saved.token !== link.lastToken()) return;
    if (saved.status === "ok") {
      download(saved.file.url, saved.title);
      end(true);
    } else if (saved.text) fail(saved.text);
    else if ((current.readings += 1) > MAX_READINGS) fail(SAVE_TROUBLE);
    else if (saved.status === "encode") link.encode();
    else link.recover();
  }

  function download(url, name) {
    const anchor = make("a", { href: url, download: name, hidden: true });
    document.body.append(anchor);
    anchor.click();
    anchor.remove();
  }

  return {
    start,
    go,
    end,
    onSaved,
    // Waits for masks that are under way.
    get isQueued() {
      return current !== null && current.request === null;
    },
  };
}
