// Draws the figures in the reader's colours, and again when these change. Colours are names of style variables.
(function () {
  var figures = JSON.parse(document.getElementById("figures").textContent);
  function coloured(value, style) {
    if (typeof value === "string" && value.slice(0, 2) === "--") return style.getPropertyValue(value).trim();
    if (Array.isArray(value)) return value.map(function (item) { return coloured(item, style); });
    if (value && typeof value === "object") {
      var copy = {};
      Object.keys(value).forEach(function (key) { copy[key] = coloured(value[key], style); });
      return copy;
    }
    return value;
  }
  function draw() {
    var style = getComputedStyle(document.documentElement);
    document.querySelectorAll("[data-figure]").forEach(function (place) {
      var figure = coloured(figures[+place.dataset.figure], style);
      Plotly.react(place, figure.data, figure.layout, { responsive: true, displayModeBar: false });
    });
  }
  draw();
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
