// The Python lines and the command that give the mask on the screen.

function pythonText(text) {
  return JSON.stringify(text);
}

function shellText(text) {
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

// A file name that no program takes for an option.
function fileText(name) {
  return shellText(name.startsWith("-") ? `./${name}` : name);
}

function promptArguments({ points, box }) {
  const args = [];
  if (points.length) {
    args.push(`points=[${points.map(([x, y]) => `(${x}, ${y})`).join(", ")}]`);
    args.push(`labels=[${points.map(([, , label]) => label).join(", ")}]`);
  }
  if (box) args.push(`box=(${box.join(", ")})`);
  return args;
}

function pythonLines(wire, index, { modelSource, title }) {
  const { points, box, steps, choices, refine } = wire;
  const args = promptArguments(wire);
  const isStepwise = steps.length > 1;
  if (isStepwise && steps.join() !== usualSteps(points, box).join()) args.push(`steps=[${steps.join(", ")}]`);
  const earlier = choices.slice(0, -1);
  if (earlier.some((choice) => choice !== null)) {
    args.push(`choices=[${[...earlier, null].map((choice) => choice ?? "None").join(", ")}]`);
  }
  const isRefined = refine.area || refine.smooth || refine.feather;
  const names = ["Predictor", ...(isRefined ? ["Refinement"] : []), "load_model", ...(isStepwise ? ["predict_steps"] : [])];
  const call = isStepwise ? `predict_steps(predictor, embedding, ${args.join(", ")})` : `predictor.candidates(embedding, ${args.join(", ")})`;
  const lines = [
    `from mobilesam import ${names.join(", ")}`,
    "",
    `predictor = Predictor(load_model(${pythonText(modelSource)}))`,
    `embedding = predictor.encode(${pythonText(title)})`,
    `result = ${call}`,
    `mask = result.mask(${index})  # (H, W) bool, the photo's own size`,
  ];
  if (isRefined) {
    lines.push(
      `refinement = Refinement(min_area=${refine.area}, smooth=${refine.smooth}, feather=${refine.feather})`,
      "mask = refinement.mask(mask)",
    );
    if (refine.feather) lines.push("alpha = refinement.alpha(mask)  # (H, W) uint8, the soft edge");
  }
  return lines.join("\n");
}

function commandLine(wire, index, best, { modelSource, title }) {
  const { points, box, steps, choices, refine } = wire;
  const words = ["python -m mobilesam segment", fileText(title), "--model", shellText(modelSource)];
  for (const [x, y, label] of points) words.push("--point", label === 1 ? `${x},${y}` : `${x},${y},0`);
  if (box) words.push("--box", box.join(","));
  const chosen = [...choices.slice(0, -1), index === best ? null : index];
  if (steps.length > 1) words.push("--steps", steps.join(","));
  if (chosen.some((choice) => choice !== null)) words.push("--choices", chosen.map((choice) => choice ?? "best").join(","));
  for (const [option, pixels] of [["--min-area", refine.area], ["--smooth", refine.smooth], ["--feather", refine.feather]]) {
    if (pixels) words.push(option, pixels);
  }
  const stem = title.split("/").at(-1).replace(/\.[^.]*$/, "") || "photo";
  words.push("--out", fileText(`${stem}.mask.png`));
  return words.join(" ");
}

function createLines(parts, view, prompts, page) {
  function show() {
    if (!parts.codeBlock.open) return;
    const object = prompts.current;
    if (!view.photo || !object || prompts.isEmpty) {
      parts.code.textContent = "# Click on the photo first.";
      parts.command.textContent = "# Click on the photo first.";
      return;
    }
    const facts = { modelSource: page.facts.modelSource || "embedded", title: view.photo.isExample ? `examples/${view.photo.title}` : view.photo.title };
    const index = prompts.chosenOf(object);
    parts.code.textContent = pythonLines(wireOf(object), index, facts);
    parts.command.textContent = commandLine(wireOf(object), index, object.result?.best ?? index, facts);
  }
  parts.codeBlock.addEventListener("toggle", show);
  return { show };
}
