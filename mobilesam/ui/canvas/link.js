// The conversation with the server. Requests carry everything they need; each answer names what it
// answers, and one that comes too late is dropped.

const ANSWER_WAIT_MS = 7000; // then a request counts as lost and is sent again
const OPEN_WAIT_MS = 20000; // a large photo on a busy machine
const ENCODE_WAIT_MS = 60000; // others may be before us
const OBJECTS_AT_ONCE = 6; // the others are asked about when these are painted
const QUEUE_WAIT_MS = 1500; // then the visitor is told that others are
const QUEUED = new Set(["encode_picture", "save_result", "start_everything"]); // of which others may be first
const SILENCE = "The server does not answer. Your points are kept; the next click asks again.";

function createLink({ props, trigger, upload, watch }, prompts, results, page) {
  // Counters name requests; `sticky` rides along until answered, since Gradio reads the value when
  // it sends an event, which may be later than the event itself.
  let counter = 0;
  let sticky = {};
  let opening = null; // { token, source, keepsPrompts, isSent }
  let stateBefore = "empty"; // where to go back to when a photo cannot be opened
  let encodeToken = 0;
  let picture = null;
  let isReady = false;
  let rev = 0;
  let askedAt = 0;
  let isWaiting = false;
  let painting = 0; // answers whose masks are being decoded
  let wantsMore = false; // prompts changed during a drag while an answer was under way
  let asked = new Map(); // object id → what its masks were asked for
  let queueTimer = 0;
  let recoveries = 0;
  const uploading = createUploading(upload);
  const opens = createRetry(OPEN_WAIT_MS, 3, () => failOpening("The server does not answer; please open the photo again.", true));
  const encodes = createRetry(ENCODE_WAIT_MS, 1, () => failEncoding(SILENCE));
  const asks = createRetry(ANSWER_WAIT_MS, 3, () => failAsking(SILENCE));
  const hearing = createHearing(trigger);

  function send(event, extra = {}) {
    sticky = { ...sticky, ...extra };
    props.value = { ...page.message(), rev, picture: picture?.id ?? null, image: null, ...sticky };
    trigger(event);
    if (QUEUED.has(event)) hearing.start(event);
  }

  // Let Python's other events see the objects as they are, without one of our own.
  function publish() {
    if (isWaiting || opening?.isSent) return; // what is under way says it already
    props.value = { ...page.message(), rev, picture: picture?.id ?? null, image: null, ...sticky };
  }

  function isShown() {
    return prompts.wanting.length === 0;
  }

  // --- opening ---------------------------------------------------------------------------------

  function open(source, keepsPrompts = false) {
    const refusal = source.file ? fileRefusal(source.file) : "";
    if (refusal) return page.say(refusal, "open");
    if (!keepsPrompts) page.hush();
    opens.stop();
    attempt(source, keepsPrompts);
  }

  async function attempt(source, keepsPrompts, isAgain = false) {
    const token = ++counter;
    uploading.stop(); // of another photo
    opening = { token, source, keepsPrompts, isSent: false };
    const extra = { token, example: source.example ?? null, image: null };
    if (source.file) {
      page.setBusy("Uploading…");
      try {
        const file = await page.readable(source.file);
        if (opening?.token !== token) return;
        extra.image = await uploaded(file, token);
      } catch (error) {
        if (opening?.token === token) failOpening(uploadTrouble(source.file, error));
        return;
      }
      if (opening?.token !== token) return; // another photo was chosen meanwhile
    }
    opening.isSent = true;
    clearTimeout(queueTimer);
    encodes.stop();
    asks.stop();
    if (!page.isOpening) stateBefore = page.state;
    page.setState("opening");
    page.setBusy("Opening…");
    const isChosen = picture && !keepsPrompts && !isAgain; // a visitor who has just come sees the title, too
    if (isChosen) page.revealStage();
    opens.start(() => attempt(source, keepsPrompts, true));
    send("open_picture", extra);
  }

  async function uploaded(file, token) {
    const path = await uploading.send(file, (share) => {
      if (opening?.token === token) page.setBusy("Uploading…", share);
    });
    return { path, orig_name: file.name, size: file.size, meta: { _type: "gradio.FileData" } };
  }

  function endOpening() {
    opening = null;
    opens.stop();
    sticky = { ...sticky, token: null, image: null, example: null };
  }

  // Back to the photo before, and to what was under way for it.
  function failOpening(text, isSilence = false) {
    endOpening();
    page.setBusy(page.state === "encoding" ? "Reading the photo…" : "");
    page.say(text, "open");
    page.openingFailed();
    if (page.isOpening) page.setState(stateBefore);
    if (!picture) return;
    if (isReady) {
      page.photoStays();
      if (!isShown()) ask();
      saving.go();
    } else if (isSilence) {
      page.setState("failed");
      page.notEncoded();
      saving.end();
    } else encode();
  }

  function onNotice(notice) {
    if (opening && notice && notice.token === opening.token) failOpening(notice.text);
  }

  async function onPicture(next) {
    if (!opening || !next || next.token !== opening.token) return;
    const { source, keepsPrompts, token } = opening;
    const drawn = new Image();
    drawn.src = fileAddress(next.file);
    try {
      await drawn.decode();
    } catch {
      if (opening?.token === token) failOpening("The photo could not be shown; please open it again.");
      return;
    }
    if (opening?.token !== token) return;
    endOpening();
    const unmade = picture && !keepsPrompts ? saving.leave(picture.title, "another photo was opened") : "";
    const isExample = Boolean(source.example);
    const { id, content, width, height, title } = next;
    picture = { id, title, source };
    isReady = false;
    const photo = { id, content, source: drawn, width, height, title, isExample };
    page.showPicture(photo, source, keepsPrompts);
    if (unmade) page.sayToo(unmade, "save");
    encode();
  }

  // The server has lost this page's session (restart, an hour's sleep): open the photo again.
  function recover() {
    if (!picture || opening) return;
    recoveries += 1;
    if (recoveries <= 2) return open(picture.source, true);
    recoveries = 0; // the next attempt may fare better
    isReady = false;
    failEncoding("This photo is no longer on the server; please open it again.");
  }

  // --- encoding --------------------------------------------------------------------------------

  function encode() {
    isReady = false;
    encodeToken = ++counter;
    asks.stop();
    page.setState("encoding");
    page.setBusy("Reading the photo…");
    clearTimeout(queueTimer);
    queueTimer = setTimeout(() => page.setBusy(whyWaiting("Other photos are read first…")), QUEUE_WAIT_MS);
    encodes.start(encode);
    send("encode_picture", { encoding: encodeToken });
  }

  function failEncoding(text) {
    hearing.stop("encode_picture");
    clearTimeout(queueTimer);
    page.setBusy("");
    page.setState("failed"); // the next click tries again
    page.waitingFor(null);
    page.say(text, "ask");
    page.notEncoded();
    saving.end();
  }

  function onProgress(progress) {
    if (progress?.encoding !== encodeToken) return;
    hearing.stop("encode_picture");
    if (opening?.isSent) return;
    clearTimeout(queueTimer);
    if (progress.state === "encoding") return page.setBusy("Reading the photo…");
    encodes.stop();
    if (progress.state === "failed") return failEncoding(progress.text);
    if (progress.state === "lost" || progress.picture !== picture?.id) return recover();
    isReady = true;
    recoveries = 0;
    page.setBusy(opening ? "Uploading…" : "");
    page.setState("ready");
    page.encoded(progress);
    saving.go(true);
    if (!isShown()) ask(askedAt || performance.now());
  }

  // Another model was chosen: what is on the screen is not its answer.
  function changeModel() {
    const unmade = picture ? saving.leave(picture.title, "another model was chosen") : "";
    if (unmade) page.sayToo(unmade, "save");
    forget();
    isReady = false;
    if (picture && !opening?.isSent) encode();
  }

  // --- asking ----------------------------------------------------------------------------------

  // Ask for masks. While something is dragged (`isLive`) one request at a time is enough.
  function ask(at = performance.now(), isLive = false) {
    if (isLive && isWaiting) {
      wantsMore = true;
      return;
    }
    rev += 1;
    askedAt = at;
    wantsMore = false;
    isWaiting = false;
    page.waitingFor(rev);
    if (opening?.isSent || !picture) return; // asked when that photo is there, or has failed
    if (!isReady) {
      if (page.state === "failed") encode();
      return;
    }
    isWaiting = true;
    asks.start(() => ask(askedAt));
    asked = new Map(prompts.wanting.slice(0, OBJECTS_AT_ONCE).map((object) => [object.id, prompts.keyOf(object)]));
    send("ask_mask", { wanted: [...asked.keys()] });
  }

  // The objects changed, and all their masks are here. A late answer must not bring a mask back.
  function nothingToAsk(isNewPhoto) {
    forget();
    page.waitingFor(isNewPhoto || !prompts.hasAny ? null : rev);
    const answered = rev;
    if (!isNewPhoto) results.painted(answered, performance.now(), () => rev === answered);
    publish();
    saving.go();
  }

  function failAsking(text) {
    isWaiting = false;
    page.waitingFor(null);
    page.say(text, "ask");
    saving.endWaiting();
  }

  // Nothing is asked any more: a late answer must not bring a mask back.
  function forget() {
    rev += 1;
    isWaiting = false;
    askedAt = 0;
    asks.stop();
  }

  function onAnswer(answer) {
    if (!answer || answer.rev !== rev || answer.picture !== picture?.id) return;
    asks.stop();
    isWaiting = false;
    if (answer.status === "ok") {
      paint(answer);
    } else if (answer.status === "encode") encode();
    else if (answer.status === "lost" || answer.status === "stale") recover();
    else failAsking(answer.text);
  }

  async function paint(answer) {
    painting += 1;
    try {
      await results.paint(answer, asked, askedAt, () => rev === answer.rev);
    } catch (reason) {
      console.warn(reason);
      return rev === answer.rev && failAsking("The masks could not be shown; the next click asks again.");
    } finally {
      painting -= 1;
    }
    if (rev !== answer.rev) return;
    if (wantsMore) return ask(performance.now(), true);
    if (!isShown()) return ask(askedAt); // the next few objects
    publish();
    saving.go();
  }

  const saving = createSaving(page, {
    encode,
    recover,
    // What a download must show, or null while masks are under way.
    whatIsShown: () => (isShown() ? page.saving() : null),
    // The masks that a download waits for may have been given up.
    wake: () => {
      if (isReady && !opening?.isSent && !isWaiting && !painting && !isShown()) ask();
    },
    isReady: () => isReady && !opening?.isSent,
    send: (request) => send("save_result", { saving: { ...request, token: ++counter, picture: picture.id } }),
    sendAgain: () => send("save_result"),
    lastToken: () => sticky.saving?.token,
    heard: () => hearing.stop("save_result"),
    forget() {
      hearing.stop("save_result");
      sticky = { ...sticky, saving: null };
      publish(); // a request sent again may go out only now
    },
  });
  const handlers = {
    picture: onPicture,
    notice: onNotice,
    progress: onProgress,
    answer: onAnswer,
    saved: saving.onSaved,
    everything: page.onEverything,
    models: page.modelsChanged,
  };
  for (const [name, handler] of Object.entries(handlers)) {
    watch([name], () => handler(props[name]));
  }
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && isWaiting) ask(askedAt);
  });

  return {
    // The name of the photo that is being opened in place of the one before; null without one.
    get newcomer() {
      return opening && !opening.keepsPrompts ? (opening.source.file?.name ?? opening.source.example) : null;
    },
    open,
    ask,
    nothingToAsk,
    publish,
    request: send,
    heard: hearing.stop,
    encode,
    recover,
    changeModel,
    save: saving.start,
    askModels: () => send("ask_models"),
  };
}
