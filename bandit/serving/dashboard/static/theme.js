// Before anything is drawn, so that a page that was asked to be dark never flashes white. No module: those come later.
{
  const chosen = localStorage.getItem("bandit-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
