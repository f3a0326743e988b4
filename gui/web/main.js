// The start of the page: takes the login code or the invite out of the address before anything else runs, then shows the
// app.

import { isJoinPage } from "./api/pages.js";
import { takeLoginCode } from "./api/session.js";
import { takeInvite } from "./invite-link.js";
import { TimebusApp } from "./elements/timebus-app.js";

if (isJoinPage()) TimebusApp.invite = takeInvite();
else TimebusApp.loginCode = takeLoginCode();
customElements.define("timebus-app", TimebusApp);
