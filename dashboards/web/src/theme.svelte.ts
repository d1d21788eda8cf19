/** Light, dark, or as the system has it. */

const KEY = "tidegate.theme";
export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

function remembered(): Theme {
  try {
    return THEMES.find((theme) => theme === localStorage.getItem(KEY)) ?? "system";
  } catch {
    return "system";
  }
}

class ThemeChoice {
  choice = $state<Theme>(remembered());
  /** Counts changes of the colours that are shown, for what is drawn on a canvas. */
  changes = $state(0);

  constructor() {
    this.#apply();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (this.changes += 1));
  }

  set(theme: Theme): void {
    this.choice = theme;
    this.#apply();
    this.changes += 1;
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // It holds until the page is left.
    }
  }

  #apply(): void {
    document.documentElement.dataset.theme = this.choice;
  }
}

export const theme = new ThemeChoice();
