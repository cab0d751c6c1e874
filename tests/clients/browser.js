// A real browser (Debian's Chromium) on web pages: `node browser.js PLAN`.
// PLAN is JSON: `hosts` (names that resolve to this machine), and `pages`, each with the `url` that it
// is opened under, whether that page is made `here` and not fetched, and its `attempts`: `what`, `kind`,
// `url` and, depending on the kind, `body` and `type`. Prints what each attempt gave, page by page.
const { chromium } = require("playwright-core");

const plan = JSON.parse(process.argv[2]);
const rules = plan.hosts.map((host) => `MAP ${host} 127.0.0.1`).join(", ");

// These run in the page. Whatever a page can see of an answer is what they give.
const kinds = {
  // With `mode: "cors"` a page may read what it is answered, if it is answered so.
  fetch: async ({ url, body, type, mode }) => {
    const headers = type ? { "content-type": type } : {};
    const response = await fetch(url, { method: "POST", mode, headers, body });
    return response.type === "opaque" ? "opaque" : `${response.status} ${await response.text()}`;
  },
  // A form needs no script to be sent; its answer is shown in a frame.
  form: ({ url, body, type }) =>
    new Promise((resolve) => {
      const frame = document.createElement("iframe");
      frame.name = "f" + Math.random();
      document.body.append(frame);
      const form = document.createElement("form");
      Object.assign(form, { method: "POST", action: url, enctype: type, target: frame.name });
      const field = document.createElement("input");
      Object.assign(field, { type: "hidden", name: body, value: "" });
      form.append(field);
      document.body.append(form);
      frame.addEventListener("load", () => resolve("navigated"));
      form.submit();
    }),
  image: ({ url }) =>
    new Promise((resolve) => {
      const image = new Image();
      image.onload = () => resolve("loaded");
      image.onerror = () => resolve("failed");
      image.src = url;
    }),
  beacon: ({ url, body }) => `queued ${navigator.sendBeacon(url, body)}`,
  socket: ({ url }) =>
    new Promise((resolve) => {
      const socket = new WebSocket(url);
      socket.onopen = () => resolve("open");
      socket.onerror = () => resolve("failed");
    }),
};

async function run(browser, { url, here, attempts }) {
  const context = await browser.newContext();
  const page = await context.newPage();
  if (here)
    await page.route(url, (route) => route.fulfill({ contentType: "text/html", body: "<body>a page</body>" }));
  await page.goto(url);
  const gave = {};
  for (const { what, kind, ...details } of attempts) {
    const attempt = `(${kinds[kind]})(${JSON.stringify(details)})`;
    gave[what] = await page.evaluate(attempt).then(String, (error) => String(error.message).split("\n")[0]);
  }
  await context.close();
  return gave;
}

(async () => {
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: [
      "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", `--host-resolver-rules=${rules}`,
      // Chromium's own wall between other networks' pages and this machine, which other browsers lack.
      "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
    ],
  });
  const out = [];
  for (const page of plan.pages) out.push(await run(browser, page));
  await browser.close();
  console.log(JSON.stringify(out));
})();
