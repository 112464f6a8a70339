// A person with a browser: opens Swagger UI, signs in at the identity provider, and
// stores, reads, lists and deletes a secret from the page. Run in the folder that
// holds node_modules.
//
//   node browser.mjs <address of Tenure> <flow> <tenant> <key> <profile folder>
//
// flow is implicit or authorizationCode. Prints one JSON object: the status and the
// body of each call, and whatever the page could not load.

import { createRequire } from 'node:module';
import { join } from 'node:path';

const { chromium } = createRequire(join(process.cwd(), 'browser.js'))('playwright-core');
const [address, flow, tenant, key, profile] = process.argv.slice(2);

const browser = await chromium.launchPersistentContext(profile, {
  executablePath: '/usr/bin/chromium',
  headless: true,
  args: [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
  ],
});
const page = await browser.newPage();
const complaints = [];
page.on('console', (message) => {
  if (message.type() === 'error') complaints.push(message.text());
});
page.on('pageerror', (error) => complaints.push(String(error)));
// For hangs, not for speed.
page.setDefaultTimeout(120_000);

await page.goto(`${address}/api/docs`);

// Authorize, in the section of the flow that was asked for.
await page.locator('.btn.authorize').first().click();
const section = page.locator('.auth-container').filter({ hasText: `Flow: ${flow}` });
for (const box of await section.locator('.scopes input[type=checkbox]').all()) {
  if (!(await box.isChecked())) await section.locator(`label[for="${await box.getAttribute('id')}"]`).click();
}
const opened = page.waitForEvent('popup');
await section.locator('.btn.authorize').click();
const popup = await opened;
await popup.locator('input[name=login]').fill('alice');
await popup.locator('input[name=password]').fill('whatever');
const closed = popup.waitForEvent('close');
await popup.locator('button[type=submit]').click();
await closed;
await section.getByText('Logout').waitFor();
await page.locator('.btn-done').first().click();

// One operation of the page: fills its fields, runs it, and reads the answer.
async function call(operation, fields, body) {
  const block = page.locator(`#operations-secrets-${operation}`);
  if (!(await block.getAttribute('class')).includes('is-open')) {
    await block.locator('.opblock-summary-control').first().click();
  }
  for (const [name, value] of Object.entries(fields)) {
    await block.locator(`tr[data-param-name="${name}"] input`).first().fill(value);
  }
  if (body) await block.locator('textarea.body-param__text').fill(body);
  await block.locator('.btn.execute').click();
  const answer = block.locator('.live-responses-table .response').first();
  await answer.waitFor();
  const status = Number((await answer.locator('.response-col_status').innerText()).split('\n')[0]);
  const shown = answer.locator('.highlight-code pre').first();
  const text = (await shown.count()) ? await shown.innerText() : null;
  await block.locator('.btn-clear').click();
  return { status, text };
}

const place = { tenantId: tenant, key };
const outcome = {
  put: await call('writeSecret', place, JSON.stringify({ value: 'from a browser' })),
  get: await call('readSecret', place),
  list: await call('listSecrets', { tenantId: tenant }),
  delete: await call('deleteSecret', place),
  gone: await call('readSecret', place),
  complaints,
};
await browser.close();
console.log(JSON.stringify(outcome));
