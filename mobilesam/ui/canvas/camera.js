// Photos from the camera, and from the clipboard by a button.

const CAMERA_SIZE = { width: { ideal: 1920 }, height: { ideal: 1440 } };
const INSTEAD = "open a photo instead";
const PASTE = `press ${COMMAND}+V to paste`;

// Why there is no picture from the camera, in words for the visitor.
function cameraTrouble(error) {
  const texts = {
    NotAllowedError: `The camera was not allowed; allow it in the browser's address bar, or ${INSTEAD}.`,
    NotFoundError: `No camera was found; connect one, or ${INSTEAD}.`,
    OverconstrainedError: `No camera was found; connect one, or ${INSTEAD}.`,
    NotReadableError: `The camera is in use by another program; close that, or ${INSTEAD}.`,
  };
  return texts[error?.name] || `The camera could not be started; ${INSTEAD}.`;
}

// Whether what is drawn can be read again: browsers that guard against tracking may give noise.
function canReadCanvas() {
  const context = make("canvas", { width: 8, height: 8 }).getContext("2d");
  context.fillStyle = "rgb(40, 120, 200)";
  context.fillRect(0, 0, 8, 8);
  const { data } = context.getImageData(0, 0, 8, 8);
  return data.every((value, index) => Math.abs(value - [40, 120, 200, 255][index % 4]) < 20);
}

function buildCamera(parts) {
  const video = make("video", { class: "ms-video", playsinline: true, autoplay: true, "aria-label": "What the camera sees" });
  video.muted = true; // or phones do not let it play
  const wait = make("p", { class: "ms-camera-wait", role: "status" });
  const close = iconButton("clear", "Close the camera");
  const other = make("button", { type: "button", class: "ms-button", hidden: true }, "Other camera");
  const shutter = make("button", { type: "button", class: "ms-button ms-primary ms-shutter", "aria-disabled": "true" }, icon("camera"), make("span", {}, "Take photo"));
  const dialog = make(
    "dialog",
    { class: "ms-camera", "aria-label": "Take a photo" },
    make("div", { class: "ms-camera-body" },
      make("div", { class: "ms-camera-view" }, video, wait),
      make("div", { class: "ms-camera-buttons" }, close, shutter, other)),
  );
  parts.root.append(dialog);
  return { dialog, video, wait, close, other, shutter };
}

function attachCamera(parts, page) {
  const { dialog, video, wait, close, other, shutter } = buildCamera(parts);
  let stream = null;
  let attempt = 0; // a camera that comes too late is switched off again
  let isPasting = false;

  function stop() {
    attempt += 1;
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    video.srcObject = null;
    setDisabled(shutter, true);
  }

  function fail(text) {
    dialog.close();
    page.say(text, "open");
  }

  async function show(which) {
    stop();
    const mine = attempt;
    wait.textContent = "Waiting for the camera…";
    setDisabled(other, true);
    let found;
    try {
      found = await navigator.mediaDevices.getUserMedia({ audio: false, video: { ...CAMERA_SIZE, ...which } });
    } catch (error) {
      if (mine === attempt) fail(cameraTrouble(error));
      return;
    }
    if (mine !== attempt) return found.getTracks().forEach((track) => track.stop());
    stream = found;
    const [track] = stream.getVideoTracks();
    track.addEventListener("ended", () => mine === attempt && fail(`The camera was switched off; ${INSTEAD}.`));
    video.classList.toggle("ms-mirrored", track.getSettings().facingMode === "user"); // as in a mirror; the photo is not
    video.srcObject = stream;
    other.hidden = (await cameras()).length < 2;
    setDisabled(other, false);
  }

  async function cameras() {
    try {
      const devices = await navigator.mediaDevices.enumerateDevices();
      return devices.filter(({ kind }) => kind === "videoinput");
    } catch {
      return [];
    }
  }

  // Front and back on a phone, which may have several cameras each way; elsewhere the next one.
  async function showOther() {
    const { facingMode, deviceId } = stream?.getVideoTracks()[0]?.getSettings() ?? {};
    if (facingMode) return show({ facingMode: { ideal: facingMode === "user" ? "environment" : "user" } });
    const all = await cameras();
    const place = all.findIndex((device) => device.deviceId === deviceId);
    const next = all[(place + 1) % all.length];
    return show(next ? { deviceId: { exact: next.deviceId } } : {});
  }

  async function begin() {
    if (!navigator.mediaDevices?.getUserMedia) {
      const reason = isSecureContext ? "This browser has no access to a camera" : "Browsers give the camera to https addresses only";
      return page.say(`${reason}; ${INSTEAD}.`, "open");
    }
    if (!canReadCanvas()) return page.say(`This browser keeps canvas image data, and so the camera's picture, from pages; allow it in the address bar and try again, or ${INSTEAD}.`, "open");
    await noteSeenTop(dialog);
    if (!dialog.open) dialog.showModal();
    show({ facingMode: { ideal: "environment" } });
  }

  function take() {
    const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((blob) => {
      if (!blob) return fail(`The camera gave no picture; ${INSTEAD}.`);
      const taken = new Date().toISOString().slice(0, 19).replace(/[T:]/g, "-");
      dialog.close();
      page.open({ file: new File([blob], `camera-${taken}.jpg`, { type: blob.type }) });
      parts.stage.focus({ preventScroll: true });
    }, "image/jpeg", 0.92);
  }

  async function pastePhoto() {
    if (!navigator.clipboard?.read) return page.say(`This browser lets no button read the clipboard; ${PASTE}.`, "open");
    let items = [];
    try {
      items = await navigator.clipboard.read();
    } catch (error) {
      if (error?.name === "NotAllowedError") return page.say(`The clipboard was not allowed; ${PASTE}.`, "open");
    }
    for (const item of items) {
      const type = item.types.find((entry) => /^image\/(?!svg)/.test(entry));
      if (!type) continue;
      const blob = await item.getType(type);
      return page.open({ file: new File([blob], `pasted.${type.slice(6)}`, { type }) });
    }
    return page.say("There is no picture in the clipboard; copy one first.", "open");
  }

  parts.camera.addEventListener("click", begin);
  close.addEventListener("click", () => dialog.close());
  other.addEventListener("click", showOther);
  shutter.addEventListener("click", take);
  video.addEventListener("playing", () => {
    wait.textContent = "";
    setDisabled(shutter, false);
    if (dialog.contains(document.activeElement)) shutter.focus();
  });
  // However it closes, Escape included, the camera goes off; the browser gives the focus back.
  dialog.addEventListener("close", stop);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside it
  parts.pasteButton.addEventListener("click", async () => {
    if (isPasting) return; // the browser is asking already
    isPasting = true;
    try {
      await pastePhoto();
    } catch {
      page.say(`The clipboard could not be read; ${PASTE}.`, "open");
    }
    isPasting = false;
  });
}
