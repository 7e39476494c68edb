// Where the server is, and a photo on its way to it. The page sends it itself: Gradio's `upload` tells
// nothing until all is there, and cannot be stopped.

const UPLOAD_SILENCE_MS = 60000; // so long without a byte more, and the connection counts as lost
const LEAVING_MS = 10000; // a page that is here so long after it was to be left stays

// The address of the server's interface, or null where this page is a part of another server's, which
// does not know.
function apiAddress() {
  const { root, api_prefix: prefix } = window.gradio_config ?? {};
  if (typeof root !== "string") return null;
  const server = new URL(root || "/", location.href);
  if (server.hostname !== location.hostname) return null;
  return `${location.origin}${server.pathname.replace(/\/$/, "")}${prefix}`;
}

// The address of a file that the server shows. For events that do not queue Gradio forgets the path
// that it is mounted at.
function fileAddress({ url }) {
  const [, after] = url.split(`${window.gradio_config?.api_prefix}/file=`);
  return after && apiAddress() ? `${apiAddress()}/file=${after}` : url;
}

function createUploading(upload) {
  let request = null;
  let leftAt = -Infinity; // when the page was last to be left

  addEventListener("beforeunload", () => (leftAt = performance.now()));

  // Returns a promise of the file's path on the server; `onShare` gets how much of it is there, 0 to 1.
  function send(file, onShare) {
    const address = apiAddress();
    if (!address) return upload(file).then(({ path }) => path);
    return new Promise((resolve, reject) => {
      const current = new XMLHttpRequest();
      request = current;
      let timer = 0;
      const wait = () => {
        clearTimeout(timer);
        timer = setTimeout(() => current.abort(), UPLOAD_SILENCE_MS);
      };
      current.upload.onprogress = ({ loaded, total }) => {
        wait();
        if (total) onShare(loaded / total);
      };
      current.onloadend = () => {
        clearTimeout(timer);
        const [path] = (current.status === 200 && current.response) || [];
        if (path) return resolve(path);
        const fail = () => reject(new Error(current.status ? `HTTP ${current.status}` : "no connection"));
        // Firefox cuts requests off before it leaves the page: that photo is still being opened then.
        const isLeaving = performance.now() - leftAt < LEAVING_MS;
        if (isLeaving && !current.status) setTimeout(fail, LEAVING_MS);
        else fail();
      };
      const form = new FormData();
      form.append("files", file);
      current.open("POST", `${address}/upload`);
      current.responseType = "json";
      wait();
      current.send(form);
    });
  }

  return { send, stop: () => request?.abort() };
}
