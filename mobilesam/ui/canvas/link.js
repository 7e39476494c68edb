// The conversation with the server. Requests carry everything they need; each answer names what it
// answers, and one that comes too late is dropped.

const MAX_FILE_BYTES = 20 * 1000 * 1000;
const ANSWER_WAIT_MS = 7000; // then a request counts as lost and is sent again
const OPEN_WAIT_MS = 20000; // a large photo on a busy machine
const ENCODE_WAIT_MS = 60000; // others may be before us
const QUEUE_WAIT_MS = 1500; // then the visitor is told that others are
const SAVE_WAIT_MS = 60000;
const MAX_RETRIES = 3;

function createLink({ props, trigger, upload, watch }, page) {
  // Counters name requests; `sticky` rides along until answered, since Gradio reads the value when
  // it sends an event, which may be later than the event itself.
  let counter = 0;
  let sticky = {};
  let opening = null; // { token, source, keepsPrompts, before }
  let encodeToken = 0;
  let picture = null;
  let isReady = false;
  let rev = 0;
  let askedAt = 0;
  let isWaiting = false;
  let wantsMore = false; // prompts changed during a drag while an answer was under way
  let watchdog = 0;
  let queueTimer = 0;
  let retries = 0;
  let recoveries = 0;
  let saving = null; // { token, button, choice }
  let saveTimer = 0;

  function send(event, extra = {}) {
    sticky = { ...sticky, ...extra };
    props.value = { ...page.message(), rev, picture: picture?.id ?? null, image: null, ...sticky };
    trigger(event);
  }

  function guard(resend, wait = ANSWER_WAIT_MS) {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => {
      retries += 1;
      if (retries > MAX_RETRIES) {
        page.say("The server does not answer. Your points are kept; click again to retry.");
        page.setBusy("");
        retries = 0;
        return;
      }
      resend();
    }, wait * (retries + 1));
  }

  function answered() {
    clearTimeout(watchdog);
    retries = 0;
  }

  // --- opening ---------------------------------------------------------------------------------

  async function open(source, keepsPrompts = false) {
    const token = ++counter;
    const before = opening ? opening.before : page.state;
    opening = { token, source, keepsPrompts, before };
    page.say("");
    const extra = { token, example: source.example ?? null, image: null };
    if (source.file) {
      const refusal = fileRefusal(source.file);
      if (refusal) return failOpening(refusal);
      page.setBusy("Uploading…");
      try {
        extra.image = await uploaded(source.file);
      } catch {
        if (opening?.token === token) failOpening("The photo could not be uploaded; is it larger than 20 MB?");
        return;
      }
      if (opening?.token !== token) return; // another photo was chosen meanwhile
    }
    clearTimeout(queueTimer);
    page.setState("opening");
    page.setBusy("Opening…");
    page.revealStage();
    guard(() => open(source, keepsPrompts), OPEN_WAIT_MS);
    send("open_picture", extra);
  }

  function fileRefusal(file) {
    if (file.size === 0) return `${file.name} is empty (0 bytes); choose another picture.`;
    if (file.size > MAX_FILE_BYTES) {
      const megabytes = (file.size / 1e6).toFixed(0);
      return `${file.name} has ${megabytes} MB; at most 20 MB can be taken.`;
    }
    return "";
  }

  async function uploaded(file) {
    const { path } = await upload(file);
    return { path, orig_name: file.name, size: file.size, meta: { _type: "gradio.FileData" } };
  }

  function failOpening(text) {
    const { before } = opening;
    opening = null;
    sticky = { ...sticky, token: null, image: null, example: null };
    answered();
    page.setBusy("");
    page.setState(before === "opening" ? "empty" : before);
    page.say(text);
    if (picture && !isReady) encode();
  }

  function onNotice(notice) {
    if (opening && notice && notice.token === opening.token) failOpening(notice.text);
  }

  async function onPicture(next) {
    if (!opening || !next || next.token !== opening.token) return;
    const { source, keepsPrompts, token } = opening;
    const drawn = new Image();
    drawn.src = next.file.url;
    try {
      await drawn.decode();
    } catch {
      if (opening?.token === token) failOpening("The photo could not be shown; please open it again.");
      return;
    }
    if (opening?.token !== token) return;
    opening = null;
    answered();
    sticky = { ...sticky, token: null, image: null, example: null };
    if (!keepsPrompts) endSaving(false);
    picture = { id: next.id, source };
    isReady = false;
    page.showPicture({ source: drawn, width: next.width, height: next.height, title: next.title }, keepsPrompts);
    encode();
  }

  // The server has lost this page's session (restart, an hour's sleep): open the photo again.
  function recover() {
    if (!picture || opening) return;
    recoveries += 1;
    if (recoveries > 2) {
      page.say("This photo is no longer on the server; please open it again.");
      page.setBusy("");
      return;
    }
    open(picture.source, true);
  }

  // --- encoding --------------------------------------------------------------------------------

  function encode() {
    isReady = false;
    encodeToken = ++counter;
    page.setState("encoding");
    page.setBusy("Reading the photo…");
    clearTimeout(queueTimer);
    queueTimer = setTimeout(() => page.setBusy("Other photos are read first…"), QUEUE_WAIT_MS);
    guard(encode, ENCODE_WAIT_MS);
    send("encode_picture", { encoding: encodeToken });
  }

  function onProgress(progress) {
    if (!progress || progress.encoding !== encodeToken || opening) return;
    clearTimeout(queueTimer);
    if (progress.state === "encoding") page.setBusy("Reading the photo…");
    else answered();
    if (progress.state === "lost") recover();
    else if (progress.state === "failed") {
      page.setBusy("");
      page.setState("failed");
      page.say(progress.text);
    } else if (progress.state === "ready" && progress.picture === picture?.id) {
      isReady = true;
      recoveries = 0;
      page.setBusy("");
      page.setState("ready");
      page.encoded(progress);
      if (saving) sendSave();
      if (!page.promptsAreEmpty) ask(askedAt || performance.now());
    }
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
    page.waitingFor(rev);
    if (!isReady) {
      isWaiting = false;
      if (page.state === "failed") encode();
      return;
    }
    isWaiting = true;
    guard(() => ask(askedAt));
    send("ask_mask");
  }

  // Nothing is asked any more: a late answer must not bring a mask back.
  function forget() {
    rev += 1;
    isWaiting = false;
    askedAt = 0;
    answered();
  }

  function onAnswer(answer) {
    if (!answer || answer.rev !== rev || answer.picture !== picture?.id) return;
    answered();
    isWaiting = false;
    if (answer.status === "ok") {
      page.paint(answer, askedAt, () => rev === answer.rev);
      if (wantsMore) ask(performance.now(), true);
    } else if (answer.status === "encode") encode();
    else if (answer.status === "lost" || answer.status === "stale") recover();
    else {
      page.waitingFor(null);
      page.say(answer.text);
    }
  }

  // --- saving ----------------------------------------------------------------------------------

  function save(button, choice) {
    endSaving(false); // one file at a time
    saving = { token: ++counter, button, choice };
    saveTimer = setTimeout(() => {
      page.say("The file could not be made; please try again.");
      endSaving(false);
    }, SAVE_WAIT_MS);
    sendSave();
  }

  function sendSave() {
    if (!isReady) return; // sent when the photo has been read again
    const { token, button, choice } = saving;
    send("save_result", { saving: token, save: button.dataset.save, choice });
  }

  function endSaving(isDone) {
    clearTimeout(saveTimer);
    if (!saving) return;
    page.saved(saving.button, isDone);
    saving = null;
    const { saving: _token, save: _kind, choice: _choice, ...rest } = sticky;
    sticky = rest;
  }

  function onSaved(saved) {
    if (!saving || !saved || saved.token !== saving.token) return;
    if (saved.status === "encode") return encode();
    if (saved.status === "lost") return recover();
    if (saved.status === "ok") download(saved.file.url, saved.title);
    else if (saved.text) page.say(saved.text);
    endSaving(saved.status === "ok");
  }

  function download(url, name) {
    const anchor = make("a", { href: url, download: name, hidden: true });
    document.body.append(anchor);
    anchor.click();
    anchor.remove();
  }

  const handlers = {
    picture: onPicture,
    notice: onNotice,
    progress: onProgress,
    answer: onAnswer,
    saved: onSaved,
    models: page.modelsChanged,
  };
  for (const [name, handler] of Object.entries(handlers)) {
    watch([name], () => handler(props[name]));
  }
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && isWaiting) ask(askedAt);
  });

  return {
    open,
    ask,
    forget,
    encode,
    save,
    askModels: () => send("ask_models"),
    get hasPicture() {
      return picture !== null;
    },
  };
}
