// The start of the page: takes the login code out of the address before anything else runs, then shows the app.

import { takeLoginCode } from "./api/session.js";
import { TimebusApp } from "./elements/timebus-app.js";

TimebusApp.loginCode = takeLoginCode();
customElements.define("timebus-app", TimebusApp);
