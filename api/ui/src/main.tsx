import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/components.css";
import "./styles/layout.css";
import "./theme";
import { render } from "preact";
import { App } from "./app";
import { watchForUpdates } from "./offline";

const root = document.getElementById("app");
if (root) render(<App />, root);
watchForUpdates();
