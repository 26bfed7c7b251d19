// The theme: the system's, or the other one for as long as the page is open.

const THEMES = ["automatic", "light", "dark"];

export function prepareTheme(button) {
  button.addEventListener("click", () => {
    const current = document.documentElement.dataset.theme ?? "automatic";
    const next = THEMES[(THEMES.indexOf(current) + 1) % THEMES.length];
    if (next === "automatic") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    button.textContent = `Theme: ${next}`;
  });
}
