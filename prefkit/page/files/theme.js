// Light, dark or as the system has it; what was chosen is remembered where the browser lets a file remember.
const THEMES = ["", "light", "dark"];
const THEME_WORDS = { "": "as the system", light: "light", dark: "dark" };

function remembered() {
  try {
    return localStorage.getItem("prefkit-theme") ?? "";
  } catch {
    return "";
  }
}

function setTheme(theme) {
  const known = THEMES.includes(theme) ? theme : "";
  if (known) document.documentElement.dataset.theme = known;
  else delete document.documentElement.dataset.theme;
  document.getElementById("theme").textContent = `Theme: ${THEME_WORDS[known]}`;
  try {
    localStorage.setItem("prefkit-theme", known);
  } catch {
    // Nothing is lost: the next visit starts as the system has it.
  }
}

document.documentElement.classList.add("js");
const themeButton = document.getElementById("theme");
themeButton.hidden = false;
themeButton.addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? "";
  setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
});
setTheme(remembered());

// What is folded away on a screen is wanted on paper, and folded again afterwards.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details.prints:not([open])")];
  for (const each of opened) each.open = true;
});
addEventListener("afterprint", () => {
  for (const each of opened) each.open = false;
});
