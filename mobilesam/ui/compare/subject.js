// Says which object is compared, before, and whether the results are of the photo that is open, after.

function tellObject(objects, line) {
  const rows = [...objects.querySelectorAll(".ms-object")];
  const number = rows.findIndex((row) => row.dataset.selected === "true") + 1;
  const row = rows[number - 1];
  const name = row?.querySelector(".ms-object-name")?.textContent;
  if (row && !name) return; // it is being renamed
  if (!row) line.textContent = "No object is selected yet: click on the photo.";
  else if (rows.length === 1) line.textContent = `To be compared: ${name}.`;
  else {
    const keys = matchMedia("(pointer: coarse)").matches ? "" : "[ and ] on the photo, N for a new one, or ";
    line.textContent = `To be compared: object ${number} of ${rows.length}, ${name}. Another one: ${keys}the list in the Segment tab.`;
  }
}

function tellPhoto(page, sides) {
  const subject = sides.querySelector("[data-content]");
  if (!subject) return;
  sides.querySelector(".ms-compare-stale").hidden = subject.dataset.content === page.dataset.content;
}

function attachSubject(page, line, sides) {
  const objects = page.querySelector(".ms-objects");
  const tellBoth = [() => tellObject(objects, line), () => tellPhoto(page, sides)];
  for (const tell of tellBoth) tell();
  const [object, photo] = tellBoth.map((tell) => new MutationObserver(tell));
  object.observe(objects, { childList: true, subtree: true, attributeFilter: ["data-selected"] });
  photo.observe(page, { attributeFilter: ["data-content"] });
  photo.observe(sides, { childList: true, subtree: true });
}
