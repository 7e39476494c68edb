// What the everything tab can be told before a search. The server knows which options suit a model.

const FOUND_DENSITIES = [[8, "8×8"], [16, "16×16"], [32, "32×32"]];
const AREA_STEPS = [0, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05]; // of the photo

// A row of choices of which one is taken.
function choiceRow(label, name, entries) {
  const inputs = entries.map(([value]) => make("input", { type: "radio", name, value: String(value) }));
  const labels = entries.map(([, text], index) => make("label", {}, inputs[index], make("span", {}, text)));
  const node = make("fieldset", { class: "ms-choice" }, make("legend", {}, label), make("div", {}, ...labels));
  return {
    node,
    get value() {
      return inputs.find((input) => input.checked)?.value;
    },
    set value(value) {
      for (const input of inputs) input.checked = input.value === String(value);
    },
  };
}

// A slider whose value is written beside it by `write(number)`.
function writtenSlider(label, attributes, write, title = "") {
  const input = make("input", { type: "range", "aria-label": label, ...attributes });
  const output = make("output");
  const show = () => {
    output.textContent = write(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
  };
  input.addEventListener("input", show);
  return {
    node: make("label", { class: "ms-slider", title }, make("span", {}, label), input, output),
    show,
    get value() {
      return Number(input.value);
    },
    set value(value) {
      input.value = String(value);
      show();
    },
  };
}

function createFoundControls(view) {
  const share = { min: "0", max: "1", step: "0.01" };
  const areaText = (step) => (step === 0 ? "any" : percentText(AREA_STEPS[step]));
  const density = choiceRow("Points", "ms-density", FOUND_DENSITIES);
  const predicted = writtenSlider("Score", share, scoreText, "Least score (predicted IoU) of a mask");
  const stability = writtenSlider("Stability", share, scoreText, "Least stability of a mask");
  const area = writtenSlider("Smallest area", { min: "0", max: String(AREA_STEPS.length - 1), step: "1" }, areaText);
  const speed = choiceRow("Search", "ms-speed", [["fast", "Fast"], ["exact", "Exact"]]);
  const all = { density, predicted, stability, area, speed };
  let isTouched = false;
  const node = make("div", { class: "ms-found-controls", on: { input: () => { isTouched = true; } } },
    density.node, predicted.node, stability.node, area.node, speed.node);

  return {
    node,
    // What the visitor has chosen; null for nothing.
    get chosen() {
      return isTouched ? Object.fromEntries(Object.entries(all).map(([name, control]) => [name, control.value])) : null;
    },
    choose(values) {
      isTouched = true;
      for (const [name, control] of Object.entries(all)) control.value = values[name];
    },
    // A model's own defaults, unless the visitor has chosen something.
    suggest(defaults) {
      if (isTouched) return;
      density.value = defaults.density;
      predicted.value = defaults.predicted_iou;
      stability.value = defaults.stability;
      area.value = 0;
      speed.value = defaults.fast ? "fast" : "exact";
    },
    options() {
      const { width, height } = view.photo;
      return {
        density: Number(density.value),
        predicted_iou: predicted.value,
        stability: stability.value,
        min_area: Math.floor(AREA_STEPS[area.value] * width * height),
        fast: speed.value === "fast",
      };
    },
  };
}
