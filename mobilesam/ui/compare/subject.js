// Says which object is compared, before, and whether the results are of what is on the page, after.

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

// What the results are not of any more: the photo that is open, or any object's prompts.
function tellStale(page, sides) {
  const subject = sides.querySelector("[data-content]");
  if (!subject) return;
  const isPhotos = subject.dataset.content === page.dataset.content;
  const asked = JSON.stringify(JSON.parse(subject.dataset.asked)); // spelled as the page does
  const isObjects = page.promptsNow().includes(asked);
  sides.querySelector("[data-stale=photo]").hidden = isPhotos;
  sides.querySelector("[data-stale=prompts]").hidden = !isPhotos || isObjects;
}

function attachSubject(page, line, sides) {
  const objects = page.querySelector(".ms-objects");
  const tellBoth = [() => tellObject(objects, line), () => tellStale(page, sides)];
  for (const tell of tellBoth) tell();
  const [object, stale] = tellBoth.map((tell) => new MutationObserver(tell));
  object.observe(objects, { childList: true, subtree: true, attributeFilter: ["data-selected"] });
  stale.observe(page, { attributeFilter: ["data-content", "data-rev"] });
  stale.observe(sides, { childList: true, subtree: true });
}
