/** Where the dashboard begins. */

import { mount } from "svelte";
import "uplot/dist/uPlot.min.css";
import "./styles/tokens.css";
import "./styles/base.css";
import "./theme.svelte";
import App from "./App.svelte";

const target = document.getElementById("app");
if (target === null) throw new Error("index.html has no place for the dashboard");
mount(App, { target });
