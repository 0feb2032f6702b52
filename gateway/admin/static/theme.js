// Before anything is drawn, so that nobody in the dark is blinded first.
(() => {
  const chosen = localStorage.getItem("theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
})();
