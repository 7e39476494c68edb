// Begins when Gradio has put the tab on the page.

function begin() {
  const slider = document.querySelector("#ms-compare-slider");
  const sides = document.querySelector("#ms-compare-sides");
  if (!slider || !sides) return setTimeout(begin, 200);
  attachSlider(slider, sides);
}

begin();
