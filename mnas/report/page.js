"use strict";
// Draws each figure into the element that names it; says how many were drawn, and when.
(function () {
  const mouse = window.matchMedia("(pointer: fine)").matches;
  const root = document.documentElement;

  function draw(element) {
    const figure = JSON.parse(document.getElementById(element.dataset.figure).textContent);
    if (mouse) figure.layout.dragmode = "zoom"; // a finger scrolls the page instead
    if (element.clientWidth < 560) narrow(figure.layout);
    return Plotly.newPlot(element, figure.data, figure.layout, { responsive: true, displayModeBar: false });
  }

  function narrow(layout) {
    layout.font.size = 11;
    for (const note of layout.annotations || []) note.font.size = 10;
  }

  async function drawAll() {
    let drawn = 0;
    for (const element of document.querySelectorAll("[data-figure]")) {
      try {
        await draw(element);
        drawn += 1;
      } catch (error) {
        element.textContent = "This chart could not be drawn: " + error;
        root.dataset.failed = String(error);
      }
    }
    root.dataset.drawn = String(drawn);
    root.dataset.drawnMs = performance.now().toFixed(0);
  }

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async function () {
      const text = document.getElementById(button.dataset.copy).textContent;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        window.getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
        button.textContent = "Selected";
      }
    });
  }

  // A printer's page is narrower than the window, and a chart does not shrink by itself.
  function resize(change) {
    for (const element of document.querySelectorAll("[data-figure]")) Plotly.relayout(element, change);
  }
  window.addEventListener("beforeprint", () => resize({ width: 640 }));
  window.addEventListener("afterprint", () => resize({ width: null, autosize: true }));

  drawAll();
})();
