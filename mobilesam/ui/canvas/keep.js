// Photo and objects survive the page being loaded again: by the visitor, or by Gradio, which does so
// after a lost connection. The tab remembers a link to what is on the screen; a photo of the
// visitor's own waits in this browser's database, for a day at most.

const KEPT = "mobilesam.page";
const KEEP_AFTER_MS = 300; // a drag is many changes
const KEEP_PHOTO_MS = 24 * 3600 * 1000;

function createKeeping(parts, sharing) {
  let photo = null; // { file, key }: a photo of the visitor's own, and its place in the database
  let timer = 0;

  function changed() {
    clearTimeout(timer);
    timer = setTimeout(keep, KEEP_AFTER_MS);
  }

  function keep() {
    clearTimeout(timer);
    const shown = parts.host.isConnected && sharing.snapshot();
    if (!shown) return;
    try {
      sessionStorage.setItem(KEPT, JSON.stringify({ ...shown, photo: photo?.key ?? null }));
    } catch {
      // full, or forbidden: then a reload begins anew
    }
    if (/^#v=/.test(location.hash) && location.hash !== shown.hash) history.replaceState(null, "", shown.hash);
  }

  async function showing({ file = null }) {
    if (file && file === photo?.file) return;
    const before = photo?.key;
    photo = file && { file, key: Date.now() + Math.random() };
    const key = photo?.key;
    changed();
    await inDatabase((photos) => {
      photos.delete(IDBKeyRange.upperBound(Date.now() - KEEP_PHOTO_MS));
      if (before) photos.delete(before);
      if (file) photos.put(file, key);
    });
  }

  // Bring back what was on the screen before the page was loaded again; another visit begins anew.
  async function start() {
    const [visit] = performance.getEntriesByType("navigation");
    const isAgain = visit?.type === "reload" || visit?.type === "back_forward";
    const kept = isAgain ? readKept() : null;
    if (!kept) return sharing.start();
    const file = kept.photo && (await inDatabase((photos) => photos.get(kept.photo)));
    if (file) photo = { file, key: kept.photo };
    sharing.resume(kept, file);
  }

  addEventListener("pagehide", keep);

  return { changed, showing, start };
}

function readKept() {
  try {
    const { hash, isPreset, photo } = JSON.parse(sessionStorage.getItem(KEPT));
    const { state } = readLink(hash);
    return state ? { state, isPreset, photo } : null;
  } catch {
    return null;
  }
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
    page.say("There is no connection. Photo and points are kept; it goes on as soon as there is one.", "offline");
  };
}
