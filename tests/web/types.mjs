// The types that the comments of the pages tell are true: `tsc` checks gui/web and the apps.

import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const config = fileURLToPath(new URL("./tsconfig.json", import.meta.url));
try {
  execFileSync(
    process.execPath,
    [join(process.env.TIMEBUS_NODE_MODULES ?? "", "typescript/bin/tsc"), "--project", config],
    { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] },
  );
} catch (error) {
  console.error(error.stdout ?? error);
  process.exit(1);
}
