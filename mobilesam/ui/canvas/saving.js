// Downloads: the server makes, at the photo's own size, what was on the screen at the click; one
// file after the other, in the order of the clicks.

const SAVE_WAIT_MS = 60000;
const MAX_READINGS = 2; // of the photo again, for one file
const SAVE_TROUBLE = "The file could not be made; please try again.";

function createSaving(page, link) {
  let jobs = []; // { button, request, isSent, readings }: the first one is worked at
  let timer = 0;

  function start(button) {
    page.unsay("save");
    jobs.push({ button, request: null, isSent: false, readings: 0 });
    page.savesChanged(jobs.map((job) => job.button));
    if (jobs.length === 1) watchTime();
    go();
  }

  function watchTime() {
    clearTimeout(timer);
    if (jobs.length) timer = setTimeout(() => fail(SAVE_TROUBLE), SAVE_WAIT_MS);
  }

  // Note what is to be saved, at once or when the masks under way are on the screen, and send the
  // first request. Once it is sent only a photo that was read anew (`again`) lets it be: its
  // answer, if there was one, is lost.
  function go(again = false) {
    if (!jobs.length) return;
    const shown = link.whatIsShown();
    for (const job of jobs) if (shown) job.request ??= { ...shown, kind: job.button.dataset.save };
    const [current] = jobs;
    if (!current.request || !link.isReady() || (current.isSent && !again)) return;
    current.isSent = true;
    link.send(current.request);
  }

  // Only some are still to be made; `done`: the button whose file has arrived.
  function keepOnly(isKept, done = null) {
    const [current] = jobs;
    jobs = jobs.filter(isKept);
    if (jobs[0] !== current) {
      link.forget();
      watchTime();
    }
    page.savesChanged(jobs.map((job) => job.button), done);
    go();
  }

  function endFirst(done = null) {
    const [first] = jobs;
    keepOnly((job) => job !== first, done);
  }

  function fail(text) {
    endFirst();
    page.say(text, "save");
  }

  function onSaved(saved) {
    const [current] = jobs;
    if (!current || !saved || saved.token !== link.lastToken()) return;
    if (saved.status === "ok") {
      download(saved.file.url, saved.title);
      endFirst(current.button);
    } else if (saved.text) fail(saved.text);
    else if ((current.readings += 1) > MAX_READINGS) fail(SAVE_TROUBLE);
    else if (saved.status === "encode") link.encode();
    else link.recover();
  }

  async function download(url, name) {
    let href = url;
    if (new URL(url, location.href).origin !== location.origin) {
      // this page is a part of another server's, and the file would be shown in its place
      const answer = await fetch(url).catch(() => ({ ok: false }));
      if (!answer.ok) return page.say(SAVE_TROUBLE, "save");
      href = URL.createObjectURL(await answer.blob());
      setTimeout(() => URL.revokeObjectURL(href), SAVE_WAIT_MS);
    }
    const anchor = make("a", { href, download: name, hidden: true });
    document.body.append(anchor);
    anchor.click();
    anchor.remove();
  }

  return {
    start,
    go,
    onSaved,
    // What is shown means nothing any more.
    end() {
      if (jobs.length) keepOnly(() => false);
    },
    // The masks that some wait for will not come.
    endWaiting() {
      if (jobs.some((job) => !job.request)) keepOnly((job) => job.request);
    },
  };
}
