// Which model answers: the visitor's choice, or a link's, whose model may still be on its way.

const MODELS_WAIT_MS = 1500; // no answer comes where there is no news
const LOOK_AGAIN_MS = 2000; // how far the download is

// `others`: gives link, results, everything, panel and sharing, which are made later.
function createModelChoice(props, prompts, page, others) {
  let name = props.models?.standard ?? null;
  let missing = null; // asked for by a link, and not here (yet)
  let timer = 0;
  prompts.setModel(name);

  // What is known of a model; undefined where it is not here.
  function choiceOf(wanted) {
    return props.models?.choices.find((entry) => entry.name === wanted);
  }

  // What is known of the model that has answered.
  function answeredBy(model) {
    const choice = choiceOf(model);
    if (choice) Object.assign(page.facts, { modelTitle: choice.title, modelSource: choice.source });
  }

  // `ofLink`: choices among the candidates are this model's already.
  function set(wanted, ofLink = false) {
    missing = null;
    if (wanted === null || wanted === name) return;
    if (!choiceOf(wanted)) {
      missing = wanted;
      others().link.askModels(); // what is known here may be old
      setTimeout(() => changed(props.models), MODELS_WAIT_MS); // or just as it is there
      return;
    }
    name = wanted;
    prompts.setModel(name, ofLink);
    page.facts.encodeMs = null;
    others().results.markStale(prompts.hasAny);
    changed(props.models);
    others().link.changeModel();
  }

  // The server has said which models there are.
  function changed(models) {
    if (!models) return;
    if (missing !== null && choiceOf(missing)) return set(missing, true);
    if (missing !== null && models.percent == null) doWithout();
    if (!choiceOf(name)) name = models.standard;
    prompts.setModel(name);
    answeredBy(name);
    const { everything, panel } = others();
    everything.modelChanged(name, choiceOf(name)?.search);
    panel.showModels(models, name);
    panel.showStatus();
    clearTimeout(timer);
    if (models.percent != null) timer = setTimeout(lookAgain, LOOK_AGAIN_MS);
  }

  // And again, without waiting for an answer: a download that stands still is no news.
  function lookAgain() {
    timer = setTimeout(lookAgain, LOOK_AGAIN_MS);
    if (navigator.onLine) others().link.askModels();
  }

  // Candidates of the model that answers instead are others than the link's.
  function doWithout() {
    page.sayToo(`The link asks for the model ${missing}, which is not on this server: another one answers.`);
    missing = null;
    others().sharing.forgetChoices();
    prompts.forgetChoices();
    if (prompts.wanting.length) others().link.ask();
  }

  return {
    get name() {
      return name;
    },
    set,
    changed,
    answeredBy,
  };
}
