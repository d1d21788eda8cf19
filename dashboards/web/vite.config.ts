import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

/** The gateway that `npm run dev` and `npx vite preview` show. */
const gateway = process.env.TIDEGATE_URL ?? "http://127.0.0.1:8000";

// The gateway compares `Origin` with `Host`, so neither is changed on the way.
const proxy = Object.fromEntries(
  ["/v1", "/metrics", "/healthz", "/readyz"].map((path) => [path, { target: gateway, ws: true, changeOrigin: false }]),
);

export default defineConfig({
  plugins: [svelte()],
  build: {
    // Browsers that know light-dark(), which the colours are written with.
    target: ["chrome123", "firefox121", "safari17.5"],
    // The Content-Security-Policy allows files of this gateway and nothing inline.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy },
  preview: { proxy },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
