// Photo and objects survive the page being loaded again: by the visitor, or by Gradio, which does so
// after a lost connection. The tab remembers a link to what is on the screen; a photo of the
// visitor's own waits in this browser's database, for a day at most; so does the last one with
// objects that made room for another.

const KEPT = "mobilesam.page";
const OFFLINE = "There is no connection. Photo and points are kept; the page goes on once there is one.";
const KEEP_AFTER_MS = 300; // a drag is many changes
const KEEP_PHOTO_MS = 24 * 3600 * 1000;
const TABS_ANSWER_MS = 1000; // other tabs that need a photo say so by then, also from the background

function createKeeping(parts, sharing, page) {
  // { file, key, hash }: a photo of the visitor's own, its place in the database, and, until it is on
  // the screen again after the page was loaded again, its objects as a link.
  let photo = null;
  let aside = null; // { file, key, hash, history }: another one that can be gone back to, its objects as a link and with every step
  let timer = 0;
  const tabs = openChannel("mobilesam.photos");
  const heldByOthers = new Set(); // keys that another tab needs, a duplicate of this one

  tabs?.addEventListener("message", ({ data }) => {
    if (data.held) heldByOthers.add(data.held);
    else if (isNeeded(data.leaving)) tabs.postMessage({ held: data.leaving });
  });

  // Those of some photos that no other tab has, too.
  async function unneeded(keys) {
    if (!tabs || !keys.length) return keys;
    for (const key of keys) {
      heldByOthers.delete(key);
      tabs.postMessage({ leaving: key });
    }
    await new Promise((resolve) => setTimeout(resolve, TABS_ANSWER_MS));
    return keys.filter((key) => !heldByOthers.has(key));
  }

  function changed() {
    clearTimeout(timer);
    timer = setTimeout(keep, KEEP_AFTER_MS);
  }

  function keep() {
    clearTimeout(timer);
    const shown = parts.host.isConnected && sharing.snapshot();
    if (!shown) return;
    try {
      const asideKept = aside && { key: aside.key, hash: aside.hash };
      const { settings, newcomer } = page;
      const record = { ...shown, photo: photo?.key ?? null, aside: asideKept, settings, newcomer };
      sessionStorage.setItem(KEPT, JSON.stringify(record));
    } catch {
      // full, or forbidden: then a reload begins anew
    }
    if (/^#v=/.test(location.hash) && location.hash !== shown.hash) history.replaceState(null, "", shown.hash);
  }

  // A photo is on the screen; `work`: the objects of the visitor's own before it, null without any.
  function showing({ file = null }, work) {
    const before = [photo, aside];
    const isBack = file !== null && file === photo?.file;
    const left = work ?? (isBack ? null : unshown());
    if (left) putAside(left);
    else if (file && file === aside?.file) aside = null;
    const key = isBack ? photo.key : Date.now() + Math.random();
    photo = file && { file, key };
    store(before);
  }

  function putAside({ hash, history }) {
    aside = { ...photo, hash, history };
  }

  // The objects of the photo that was to come back and is not on the screen yet; null where there are none.
  function unshown() {
    const { objects = [] } = (photo?.hash && readLink(photo.hash).state) || {};
    return objects.length ? { hash: photo.hash, history: null } : null;
  }

  // A photo could not be opened. One that was to come back can be gone back to.
  function stays() {
    const left = unshown();
    if (left) {
      const before = [photo, aside];
      putAside(left);
      photo = null;
      store(before);
    }
    offerBack();
  }

  // The visitor's own photo stays, its objects make room for a link's.
  function setAside(work) {
    if (!work) return;
    const before = [photo, aside];
    putAside(work);
    store(before);
    offerBack();
  }

  function isNeeded(key) {
    return [photo?.key, aside?.key].includes(key);
  }

  // Take into the database what is new since `before`, and out of it what is needed no more.
  async function store(before) {
    changed();
    const known = before.filter(Boolean).map(({ key }) => key);
    const needed = [photo, aside].filter(Boolean);
    const outdated = known.filter((key) => !isNeeded(key));
    const records = await Promise.all(needed.filter(({ key }) => !known.includes(key)).map(recordOf)).catch(() => []);
    await inDatabase((photos) => {
      photos.delete(IDBKeyRange.upperBound(Date.now() - KEEP_PHOTO_MS));
      for (const { key, ...record } of records) if (isNeeded(key)) photos.put(record, key);
    });
    const left = await unneeded(outdated);
    if (!left.length) return;
    await inDatabase((photos) => {
      for (const key of left) if (!isNeeded(key)) photos.delete(key);
    });
  }

  function offerBack() {
    if (!aside) return;
    const name = shortName(aside.file.name);
    const what = aside.key === photo?.key ? `The objects that ${name} had` : `${name} and its objects`;
    page.sayToo(`${what} are set aside.`, "aside");
  }

  function goBack() {
    if (!aside) return;
    sharing.resume({ ...readLink(aside.hash), isPreset: false }, aside.file, aside.history);
  }

  // Bring back what was on the screen before the page was loaded again; another visit begins anew.
  async function start() {
    const [visit] = performance.getEntriesByType("navigation");
    const isAgain = visit?.type === "reload" || visit?.type === "back_forward" || cameFromItself();
    const kept = isAgain ? readKept() : null;
    if (!kept) return sharing.start();
    const file = kept.photo && (await keptFile(kept.photo));
    const other = kept.aside && (await keptFile(kept.aside.key));
    if (other) aside = { ...kept.aside, file: other };
    if (parts.root.dataset.photo) { // the visitor has opened one meanwhile
      if (file) aside = { file, key: kept.photo, hash: kept.hash, history: null };
      changed();
      return offerBack();
    }
    if (file) photo = { file, key: kept.photo, hash: kept.hash };
    if (kept.settings) page.restore(kept.settings); // an older version of this page kept none
    if (page.newcomer) return; // the visitor is opening one: then the kept one is set aside
    sharing.resume(kept, file);
    if (kept.newcomer) page.say(`${shortName(kept.newcomer)} was not open yet when this page was loaded again; please open it once more.`, "open");
  }

  addEventListener("pagehide", keep);

  // A file that was moved or changed on the disk cannot be read any more: this browser's copy, if it has one.
  async function readable(file) {
    const isThere = await file.slice(0, 1).arrayBuffer().then(() => true, () => false);
    if (isThere) return file;
    const kept = [photo, aside].find((one) => one?.file === file);
    const copy = kept && (await keptFile(kept.key));
    if (!copy) throw new Error(UNREADABLE);
    return copy;
  }

  return { changed, showing, setAside, offerBack, stays, goBack, readable, start };
}

// Gradio's settings load the page with another address: for a dark theme, or for a light one.
function cameFromItself() {
  return document.referrer.split(/[?#]/)[0] === location.origin + location.pathname;
}

// null where the browser has none, or keeps this page from its storage.
function openChannel(name) {
  try {
    return new BroadcastChannel(name);
  } catch {
    return null;
  }
}

function readKept() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEPT));
    const { state } = readLink(kept.hash);
    return state ? { state, ...kept } : null;
  } catch {
    return null;
  }
}

// A file is kept as its bytes: Safari's private windows keep bytes, but no files.
async function recordOf({ file, key }) {
  return { key, name: file.name, type: file.type, bytes: await file.arrayBuffer() };
}

// undefined where it was not kept.
async function keptFile(key) {
  const record = await inDatabase((photos) => photos.get(key));
  return record && new File([record.bytes ?? record], record.name, { type: record.type }); // earlier pages kept the file
}

// Do something with the photos that this browser keeps; undefined where it keeps none.
function inDatabase(work) {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open("mobilesam", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("photos");
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      const transaction = opening.result.transaction("photos", "readwrite");
      const request = work(transaction.objectStore("photos"));
      transaction.oncomplete = () => {
        opening.result.close();
        resolve(request?.result);
      };
      transaction.onabort = () => reject(transaction.error);
    };
  }).catch(() => undefined);
}

// What holds a request up: others, unless it has not even been sent.
function whyWaiting(others) {
  return navigator.onLine ? others : "Waiting for the connection…";
}

// Without a connection events wait until there is one: a request that fails has Gradio load the
// page anew.
function whenOnline(trigger, page) {
  const waiting = new Set();
  addEventListener("online", () => {
    page.unsay("offline");
    for (const event of waiting) trigger(event);
    waiting.clear();
  });
  return (event) => {
    if (navigator.onLine) return trigger(event);
    waiting.add(event);
    page.say(OFFLINE, "offline");
  };
}
