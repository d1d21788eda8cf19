/** Which page is shown, by the address. */

import { tick } from "svelte";

class Router {
  path = $state(location.pathname);

  constructor() {
    window.addEventListener("popstate", () => this.#arrive());
    document.addEventListener("click", (event) => this.#follow(event));
  }

  /** `address`: a path, and perhaps what a page reads behind a question mark. */
  go(address: string): void {
    if (address !== location.pathname + location.search) history.pushState(null, "", address);
    this.#arrive();
  }

  /** A user who cannot see the page learns by the focus that it is another one. */
  #arrive(): void {
    this.path = location.pathname;
    void tick().then(() => {
      window.scrollTo(0, 0);
      document.querySelector<HTMLElement>("h1")?.focus({ preventScroll: true });
    });
  }

  /** Links within the dashboard change the page and load nothing; those to the gateway's other answers are ordinary. */
  #follow(event: MouseEvent): void {
    const modified = event.metaKey || event.ctrlKey || event.shiftKey || event.altKey;
    if (event.defaultPrevented || event.button !== 0 || modified) return;
    const link = (event.target as Element).closest<HTMLAnchorElement>("a[href]");
    if (link === null || link.origin !== location.origin || link.target !== "" || link.rel === "external" || link.hash !== "") return;
    event.preventDefault();
    this.go(link.pathname + link.search);
  }
}

export const router = new Router();
