// The pizza page in Debian's Chromium: pizza_page.js http://PAGE/ SCREENSHOT.PNG
// Presses every button, as somebody who looks for it by its name, and prints what the page showed.
'use strict';
const { chromium } = require('playwright-core');

const [url, screenshot] = process.argv.slice(2);

(async () => {
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: [
      '--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync',
    ],
  });
  const out = { complaints: [] };
  const open = async (prepare = () => {}) => {
    const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
    page.on('console', (message) => { if (message.type() === 'error') out.complaints.push(message.text()); });
    page.on('pageerror', (error) => out.complaints.push(String(error)));
    await prepare(page);
    await page.goto(url);
    await page.getByRole('status').filter({ hasText: /^Connected to/ }).waitFor();
    return page;
  };

  const page = await open();
  /** Presses a button, and gives its card's answer when it is there. */
  const press = async (name, answer) => {
    const place = page.getByRole('status', { name: answer });
    await place.evaluate((node) => { node.replaceChildren(); });
    await page.getByRole('button', { name, exact: true }).click();
    await place.locator('.head').waitFor();
    const texts = (what) => place.locator(what).allInnerTexts();
    return {
      head: await texts('.head'), way: await texts('.way li'), results: await texts('pre'),
      tags: await texts('.tag'), messages: await texts('.message'), means: await texts('.means'),
    };
  };
  /** The data of an event, when it is there. */
  const heard = async (topic) => {
    const event = page.getByRole('log').getByRole('listitem').filter({ hasText: topic }).first();
    await event.waitFor();
    return { world: await event.getAttribute('data-world'), data: JSON.parse(await event.locator('.data').innerText()) };
  };

  out.order = await press('Order', 'Answer to the order');
  out.ordered = await heard('orders.created');
  out.mail = await press('Send', 'Answer to the mail');
  out.mailed = await heard('mail.sent');
  out.greet = await press('Say hello', 'Answer of the waiter');
  out.greeted = await heard('rust.greeted');
  out.chain = await press('Let it order an M', 'Answer of the waiter');
  out.batch = await press('Call all three', 'Answer to these');
  out.nobody = await press('Misspell one', 'Answer to these');
  await page.getByRole('radio', { name: 'XXL' }).check();
  out.fault = await press('Order', 'Answer to the order');
  out.counts = await page.getByRole('group', { name: 'Show events of' }).getByRole('button').allInnerTexts();
  await page.mouse.move(0, 0);
  await page.evaluate(() => Promise.all(document.getAnimations().map((animation) => animation.finished)));
  await page.screenshot({ path: screenshot, fullPage: true });

  // A narrow one scrolls down, and not to the side.
  await page.setViewportSize({ width: 360, height: 740 });
  out.overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);

  // Another one, whose connection is cut: it hears what the first one does, before and after.
  const sockets = [];
  const other = await open((page) => page.routeWebSocket(/\/api$/, (socket) => {
    sockets.push(socket);
    socket.connectToServer();
  }));
  const entry = (text) => other.getByRole('log').getByRole('listitem').filter({ hasText: text }).first();
  await press('Say hello', 'Answer of the waiter');
  await entry('rust.greeted').waitFor();
  await sockets[0].close({ code: 1012, reason: 'cut by the test' });
  out.lost = await entry('was lost').locator('span').innerText();
  out.again = await entry('Connected again').locator('span').innerText();
  await press('Send', 'Answer to the mail');
  await entry('mail.sent').waitFor();
  await browser.close();
  console.log(JSON.stringify(out));
})().catch((error) => { console.error(error); process.exit(1); });
