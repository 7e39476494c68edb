// Begins when Gradio has put the tab on the page.

function begin() {
  const [tab, slider, sides, status] = ["mobilesam-compare", "ms-compare-slider", "ms-compare-sides", "ms-compare-status"].map(
    (id) => document.getElementById(id),
  );
  const page = document.querySelector(".ms");
  const line = document.querySelector(".ms-compare-object");
  if (!tab || !slider || !sides || !status || !page || !line) return setTimeout(begin, 200);
  tab.setAttribute("role", "tabpanel");
  tab.setAttribute("aria-labelledby", "ms-tab-compare");
  attachSlider(slider, sides);
  attachSpeech(status);
  keepFocus(tab);
  attachSubject(page, line, sides);
  waitForConnection(tab, page);
}

begin();
