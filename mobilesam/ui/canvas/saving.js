// Downloads: the server makes, at the photo's own size, what was on the screen at the click; one
// file after the other, in the order of the clicks.

const SAVE_SILENCE_MS = 60000; // the server says every two seconds that a file will come
const KEPT_FOR_MS = 60000; // a file while the browser saves it
const MAX_READINGS = 2; // of the photo again, for one file
const SAVE_TROUBLE = "The file could not be made; please try again.";

function createSaving(page, link) {
  // { button, request, isSent, readings, left }: the first one is worked at. `left` says since when
  // the page shows something else: { title, why }.
  let jobs = [];
  let isQueued = false; // others' files are made before the first one
  const silence = createRetry(SAVE_SILENCE_MS, 1, () => fail(SAVE_TROUBLE));

  function start(button) {
    page.unsay("save");
    jobs.push({ button, request: null, isSent: false, readings: 0, left: null });
    show();
    go();
    if (page.state !== "failed") return link.wake();
    page.unsay("ask"); // that it failed
    link.encode();
  }

  // A request may get lost. It keeps its token: if it waits on the server, its answer is as good.
  function listen() {
    silence.start(() => {
      link.sendAgain();
      listen();
    });
  }

  // Say which files are being made; `done` is the job whose file has arrived. A button whose file is
  // of something else can make one of what is shown now.
  function show(done = null) {
    const here = jobs.filter((job) => !job.left).map(({ button }) => button);
    const names = jobs.map(nameOf).join(", then ");
    const making = names && (isQueued ? `Others first, then ${names}…` : `Making ${names}…`);
    page.savesChanged(here, making, done ? `${nameOf(done)} saved.` : "");
  }

  function nameOf({ button, left }) {
    return left ? `${button.textContent} of ${left.title}` : button.textContent;
  }

  // Note what is to be saved, at once or when the masks under way are on the screen, and send the
  // first request. Once it is sent only a photo that was read anew (`again`) lets it be: its
  // answer, if there was one, is lost.
  function go(again = false) {
    if (!jobs.length) return;
    const shown = link.whatIsShown();
    for (const job of jobs) if (shown) job.request ??= { ...shown, kind: job.button.dataset.save };
    const [current] = jobs;
    if (!current.request || current.left || !link.isReady() || (current.isSent && !again)) return;
    current.isSent = true;
    silence.stop();
    link.send(current.request);
    listen();
  }

  // Only some are still to be made; `done`: the one whose file has arrived.
  function keepOnly(isKept, done = null) {
    const [current] = jobs;
    jobs = jobs.filter(isKept);
    if (jobs[0] !== current) {
      link.forget();
      silence.stop();
      isQueued = false;
    }
    show(done);
    go();
  }

  function endFirst(done = null) {
    const [first] = jobs;
    keepOnly((job) => job !== first, done);
  }

  // What is said of a photo that is gone goes with what is said of the one that has come.
  function fail(text) {
    const [first] = jobs;
    endFirst();
    if (first.left) page.sayToo(`${nameOf(first)}: ${text}`, "save");
    else page.say(text, "save");
  }

  function notMade(some, { title, why }) {
    const names = some.map(({ button }) => button.textContent).join(" and ");
    return `${names} of ${title} could not be made: ${why}.`;
  }

  // The page shows another photo or another model's masks. The file that the server has been asked
  // for can still come; the others cannot be asked for any more. Returns the sentence about them.
  function leave(title, why) {
    const left = { title: shortName(title), why };
    const ended = jobs.filter((job) => !job.left && !job.isSent);
    for (const job of jobs) job.left ??= left;
    if (jobs.length) keepOnly((job) => !ended.includes(job));
    return ended.length ? notMade(ended, left) : "";
  }

  function onSaved(saved) {
    const [current] = jobs;
    if (!current || !saved || saved.token !== link.lastToken()) return;
    silence.stop();
    link.heard();
    if (saved.status === "queued" || saved.status === "making") {
      listen();
      if (isQueued === (saved.status === "queued")) return;
      isQueued = !isQueued;
      show();
    } else if (saved.status === "ok") {
      download(saved.file.url, saved.title);
      endFirst(current);
    } else if (saved.text) fail(saved.text);
    else if (current.left) {
      endFirst();
      page.sayToo(notMade([current], current.left), "save");
    } else if ((current.readings += 1) > MAX_READINGS) fail(SAVE_TROUBLE);
    else {
      current.isSent = false; // until the photo is read again
      if (saved.status === "encode") link.encode();
      else link.recover();
    }
  }

  async function download(url, name) {
    let href = url;
    if (new URL(url, location.href).origin !== location.origin) {
      // this page is a part of another server's, and the file would be shown in its place
      const content = await fetch(url).then((answer) => answer.ok && answer.blob()).catch(() => null);
      if (!content) return page.say(SAVE_TROUBLE, "save");
      href = URL.createObjectURL(content);
      setTimeout(() => URL.revokeObjectURL(href), KEPT_FOR_MS);
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
    leave,
    // The photo cannot be read.
    end() {
      if (jobs.length) keepOnly((job) => job.left);
    },
    // The masks that some wait for will not come.
    endWaiting() {
      if (jobs.some((job) => !job.request)) keepOnly((job) => job.request);
    },
  };
}
