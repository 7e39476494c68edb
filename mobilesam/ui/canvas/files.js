// Photos come in through the button, by paste, or dropped anywhere on the page.

const MAX_FILE_BYTES = 20 * 1000 * 1000;
const UNREADABLE = "unreadable"; // a file that is not on the disk any more as it was

// Why a file is not sent, "" if it is.
function fileRefusal(file) {
  const name = shortName(file.name);
  if (file.size === 0) return `${name} is empty (0 bytes); choose another picture.`;
  if (file.size > MAX_FILE_BYTES) {
    const megabytes = (Math.ceil(file.size / 1e5) / 10).toFixed(1); // else 20.1 would be 20
    return `${name} has ${megabytes} MB, at most 20 MB can be taken: make it smaller.`;
  }
  return "";
}

// Why one did not arrive.
function uploadTrouble(file, error) {
  const name = shortName(file.name);
  if (error.message === UNREADABLE) return `${name} cannot be read any more, it was moved or changed; please choose it again.`;
  const status = /^HTTP (\d+)/.exec(error.message)?.[1];
  if (!status) return `${name} could not be uploaded; check the connection and try again.`;
  const guess = ["500", "507"].includes(status) ? "; its disk may be full" : "";
  return `The server could not take ${name} (error ${status})${guess}. Please try again later.`;
}

function attachFiles(parts, page) {
  function openFiles(files) {
    const [file, ...others] = [...(files || [])].filter(Boolean);
    if (!file) return;
    page.open({ file });
    if (others.length && parts.notice.hidden) page.say(`Only ${shortName(file.name)} is opened, the first of ${others.length + 1} files.`, "open");
  }

  function hasFiles(event) {
    return parts.host.isConnected && [...(event.dataTransfer?.types || [])].includes("Files");
  }

  parts.empty.addEventListener("click", () => parts.file.click());
  parts.file.addEventListener("change", () => {
    openFiles(parts.file.files);
    parts.file.value = "";
  });
  document.addEventListener("paste", (event) => {
    const data = event.clipboardData;
    if (!parts.host.isConnected || !data?.files.length) return;
    const isText = event.target.closest?.("textarea, input, [contenteditable]") && data.types.includes("text/plain");
    if (isText) return; // cells of a spreadsheet come as text and as a picture
    event.preventDefault();
    openFiles(data.files);
  });
  // On the window: a file dropped beside the component would replace the page.
  for (const type of ["dragenter", "dragover"]) {
    window.addEventListener(type, (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      parts.root.classList.add("ms-dropping");
    });
  }
  window.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) parts.root.classList.remove("ms-dropping");
  });
  window.addEventListener("drop", (event) => {
    parts.root.classList.remove("ms-dropping");
    if (!hasFiles(event)) return;
    event.preventDefault();
    openFiles(event.dataTransfer.files);
  });
}
