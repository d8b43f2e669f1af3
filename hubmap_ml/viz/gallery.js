"use strict";
// Moves the score threshold of each gallery: hides what is below it and counts what is left.
(function () {
  const STEPS = 100, CLOSE = 1e-7;
  function words(right, wrong, missed) {
    const part = (a, b) => (b ? (a / b).toFixed(3) : "–");
    return right + " found, " + missed + " missed, " + wrong + " wrong; precision " + part(right, right + wrong) +
      ", recall " + part(right, right + missed) + ", F1 " + part(2 * right, 2 * right + wrong + missed);
  }
  function show(gallery, position) {
    const threshold = position / STEPS - CLOSE;
    gallery.querySelector(".at").textContent = (position / STEPS).toFixed(2);
    gallery.querySelectorAll("[data-s]").forEach(function (one) {
      one.classList.toggle("off", Number(one.dataset.s) < threshold);
    });
    gallery.querySelectorAll("[data-by]").forEach(function (one) {
      one.classList.toggle("off", one.dataset.by !== "" && Number(one.dataset.by) >= threshold);
    });
    gallery.querySelectorAll(".tile").forEach(function (tile) {
      const right = tile.querySelectorAll("use.tp:not(.off)").length;
      const wrong = tile.querySelectorAll("use.fp:not(.off)").length;
      tile.querySelector("output").textContent = words(right, wrong, Number(tile.dataset.truths) - right);
    });
    const all = gallery.querySelector(".all");
    if (all) {
      const counts = JSON.parse(all.dataset.counts);
      all.querySelector("output").textContent =
        words(counts.right[position], counts.wrong[position], counts.missed[position]);
    }
  }
  document.querySelectorAll(".tiles").forEach(function (gallery) {
    const slider = gallery.querySelector("input[type=range]");
    slider.addEventListener("input", function () { show(gallery, Number(slider.value)); });
    gallery.querySelectorAll("button").forEach(function (mark) {
      mark.addEventListener("click", function () {
        slider.value = mark.value;
        show(gallery, Number(slider.value));
      });
    });
    if (slider.value !== gallery.dataset.start) { show(gallery, Number(slider.value)); } // a browser that remembers
  });
})();
